"""The report in a browser: headless Chromium opens the page from its file, as a double click does."""

import base64

import numpy as np
import pytest
from report_pages import save_data, trained

import xpnet
from xpnet.data import datasets
from xpnet.nn.functional import ACTIVATIONS
from xpnet.report import write_report

pytestmark = [pytest.mark.needs("browser"), pytest.mark.slow]
IMAGES = 300

NETWORKS = [
    "--hidden 20 15 12 --activation tanh --batch-norm",
    "--arithmetic native --normalize standardize",
    *(f"--hidden 9 8 --activation {name}" for name in ACTIVATIONS if name != "tanh"),
]


@pytest.mark.parametrize("flags", NETWORKS)
def test_the_page_computes_what_python_does(tmp_path, opened, flags):
    """Logits and probabilities, of every kind of network, for the raw rows."""
    mnist = datasets.load()
    arrays = {name: getattr(mnist, name)[:IMAGES] for name in ("x_train", "y_train", "x_test", "y_test")}
    words = ("--data", save_data(tmp_path / "little.npz", **arrays), "--epochs", 2, "--batch-size", 100)
    run = trained(tmp_path / "run", *words, *flags.split())
    pixels = mnist.x_test[:IMAGES]
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


STROKES = {
    0: [[(14, 4), (8, 8), (7, 15), (10, 22), (15, 23), (20, 18), (20, 9), (14, 4)]],
    7: [[(7, 6), (20, 6), (13, 24)]],
}
"""Digits as lines of (x, y), in pixels of an image."""


def draw(page, *lines):
    box = page.locator("#pad").bounding_box()
    for line in lines:
        for place, (x, y) in enumerate(line):
            page.mouse.move(box["x"] + x * box["width"] / 28, box["y"] + y * box["height"] / 28)
            if place == 0:
                page.mouse.down()
        page.mouse.up()


def shares_of(page):
    """The probabilities that the page shows, as text, once it has read what was drawn before."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator("#bars .share").all_inner_texts()


def test_digits_drawn_with_the_mouse_are_read(tmp_path, opened):
    page = opened(write_report(trained(tmp_path / "quick", "--recipe", "quick", "--epochs", 5)))
    for digit, lines in STROKES.items():
        draw(page, *lines)
        shares = [float(text[:-2]) for text in shares_of(page)]
        assert (len(shares), sum(shares)) == (10, pytest.approx(100, abs=1))
        assert int(page.locator("#bars .first span").first.inner_text()) == np.argmax(shares) == digit
        assert page.locator("#reading").inner_text().startswith(f"Reads as {digit}, with a probability")
        draw(page, [(6, 14), (22, 14)])
        assert [float(text[:-2]) for text in shares_of(page)] != pytest.approx(shares, abs=0.2)
        page.click("#undo")
        assert [float(text[:-2]) for text in shares_of(page)] == pytest.approx(shares, abs=0.2)
        page.click("#clear")
        assert shares_of(page) == [""] * 10
