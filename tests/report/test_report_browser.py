"""The report in a browser: headless Chromium opens the page from its file, as a double click does."""

import base64

import numpy as np
import pytest
from report_pages import blobs, trained

import xpnet
from xpnet.data import datasets
from xpnet.nn.functional import ACTIVATIONS
from xpnet.report import write_report

pytestmark = [pytest.mark.needs("browser"), pytest.mark.slow]

NETWORKS = [
    "--hidden 20 15 12 --activation tanh --batch-norm",
    "--arithmetic native --normalize standardize",
    *(f"--hidden 9 8 --activation {name}" for name in ACTIVATIONS if name != "tanh"),
]


@pytest.mark.parametrize("flags", NETWORKS)
def test_the_page_computes_what_python_does(tmp_path, opened, flags):
    data = blobs(tmp_path / "blobs.npz")
    run = trained(tmp_path / "run", "--data", data, "--epochs", 2, "--batch-size", 100, *flags.split())
    pixels = datasets.load(data).x_test
    values = opened(write_report(run)).evaluate(LOGITS, [encoded(pixels), pixels.shape[1]])
    logits, probabilities = np.moveaxis(np.array(values), 1, 0)
    expected, expected_probabilities = xpnet.load(run, device="cpu").predictor.outputs(pixels)
    assert np.abs(probabilities - expected_probabilities).max() <= 1e-5
    largest = np.maximum(np.abs(expected).max(axis=1, keepdims=True), 1.0)
    assert (np.abs(logits - expected) <= 1e-5 * largest).all()


def encoded(array):
    return base64.b64encode(array.tobytes()).decode()


LOGITS = """
([encoded, features]) => {
  const network = xpnet.loaded(JSON.parse(document.getElementById("network").textContent).network);
  const values = Float64Array.from(atob(encoded), (character) => character.charCodeAt(0));
  return Array.from({ length: values.length / features }, (_, row) => {
    const logits = xpnet.logits(network, values.subarray(row * features, (row + 1) * features));
    return [Array.from(logits), Array.from(xpnet.softmax(logits))];
  });
}
"""


@pytest.fixture
def opened(browser):
    """A function that opens a report; afterwards there must be no message, error or request."""
    trouble, context = [], browser.new_context(viewport={"width": 1100, "height": 900})
    context.set_offline(True)

    def open_page(path):
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: trouble.append(dialog.message))
        page.on("request", lambda request: trouble.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    context.close()
    allowed = ("file:", "data:,", "data:image/png")
    assert [text for text in trouble if not text.startswith(allowed)] == []


SEVEN = [(7, 6), (20, 6), (13, 24)]


def draw(page, line):
    box = page.locator("#pad").bounding_box()
    for x, y in line:
        page.mouse.move(box["x"] + x * box["width"] / 28, box["y"] + y * box["height"] / 28)
        page.mouse.down()
    page.mouse.up()


def shares_of(page):
    """The probabilities that the page shows, as text, once it has read what was drawn before."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator("#bars .share").all_inner_texts()


def test_a_digit_drawn_with_the_mouse_is_read(tmp_path, opened):
    page = opened(write_report(trained(tmp_path / "quick", "--recipe", "quick", "--epochs", 5)))
    draw(page, SEVEN)
    shares = [float(text[:-2]) for text in shares_of(page)]
    assert (len(shares), sum(shares), np.argmax(shares)) == (10, pytest.approx(100, abs=1), 7)
    assert page.locator("#reading").inner_text().startswith("Reads as 7, with a probability")
    draw(page, [(6, 14), (22, 14)])
    page.click("#undo")
    assert [float(text[:-2]) for text in shares_of(page)] == pytest.approx(shares, abs=0.2)
    page.click("#clear")
    assert shares_of(page) == [""] * 10
