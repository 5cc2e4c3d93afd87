"""The report in a browser: headless Chromium opens the page from its file, as a double click does."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_pages import save_data, trained

import xpnet
from xpnet.__main__ import main
from xpnet.data import datasets
from xpnet.data.pictures import to_mnist_form
from xpnet.nn.functional import ACTIVATIONS
from xpnet.report import write_report

pytestmark = [pytest.mark.needs("browser"), pytest.mark.slow]
IMAGES = 300

NETWORKS = [
    ("pixels", 1, "--hidden"),
    ("floats", 255, "--hidden 20 15 12 --activation tanh --batch-norm"),
    ("floats", 255, "--arithmetic native --normalize standardize"),
    ("pixels", 1, "--normalize none --init he --lr 1e-6"),
]
NETWORKS += [
    ("pixels", 1, f"--hidden 9 8 --activation {name}") for name in ACTIVATIONS if name not in ("relu", "tanh")
]


@pytest.fixture(scope="module")
def mnist():
    return datasets.load()


@pytest.mark.parametrize(("kind", "divisor", "flags"), NETWORKS)
def test_the_page_computes_what_python_does(mnist, tmp_path, opened, kind, divisor, flags):
    """Logits and probabilities, of every kind of network, for the raw rows pixels / divisor."""
    arrays = {name: getattr(mnist, name)[:IMAGES] for name in ("x_train", "y_train", "x_test", "y_test")}
    if kind == "floats":
        arrays |= {name: arrays[name] / 255.0 for name in ("x_train", "x_test")}
    words = ("--data", save_data(tmp_path / "little.npz", **arrays), "--epochs", 2, "--batch-size", 100)
    run = trained(tmp_path / "run", *words, *flags.split())
    pixels = mnist.x_test[:IMAGES]
    values = opened(write_report(run)).evaluate(LOGITS, [encoded(pixels), pixels.shape[1], divisor])
    logits, probabilities = np.moveaxis(np.array(values), 1, 0)
    expected, expected_probabilities = xpnet.load(run, device="cpu").predictor.outputs(arrays["x_test"])
    assert logits.shape == expected.shape == (IMAGES, 10)
    assert np.abs(probabilities - expected_probabilities).max() <= 1e-5
    largest = np.maximum(np.abs(expected).max(axis=1, keepdims=True), 1.0)
    assert (np.abs(logits - expected) <= 1e-5 * largest).all()


def encoded(array):
    return base64.b64encode(array.tobytes()).decode()


LOGITS = """
([encoded, features, divisor]) => {
  const network = xpnet.loaded(JSON.parse(document.getElementById("network").textContent).network);
  const values = Float64Array.from(atob(encoded), (character) => character.charCodeAt(0) / divisor);
  return Array.from({ length: values.length / features }, (_, row) => {
    const logits = xpnet.logits(network, values.subarray(row * features, (row + 1) * features));
    return [Array.from(logits), Array.from(xpnet.softmax(logits))];
  });
}
"""
FIELD = """
([encoded, width, height, side]) => {
  const ink = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  return Array.from(xpnet.field({ ink, width, height }, side));
}
"""


@pytest.fixture
def opened(browser):
    """A function that opens a report; afterwards there must be no message, error or request."""
    trouble = []

    def open_page(path, **options):
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **options})
        context.set_offline(True)
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: trouble.append(dialog.message))
        page.on("request", lambda request: trouble.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in browser.contexts:
        context.close()
    allowed = ("file:", "data:,", "data:image/png")
    assert [text for text in trouble if not text.startswith(allowed)] == []


@pytest.fixture(scope="module")
def quick(browser, tmp_path_factory):
    """The report of a short run with the recipe quick on MNIST."""
    folder = tmp_path_factory.mktemp("browser") / "quick"
    return write_report(trained(folder, "--recipe", "quick", "--epochs", 5))


STROKES = {
    0: [[(14, 4), (8, 8), (7, 15), (10, 22), (15, 23), (20, 18), (20, 9), (14, 4)]],
    4: [[(8, 5), (7, 14), (19, 14)], [(18, 4), (17, 24)]],
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


def reading(page):
    shares_of(page)
    return int(page.locator("#bars .first span").first.inner_text())


def test_digits_drawn_with_the_mouse_are_read_as_the_command_predict_reads_them(quick, opened):
    page = opened(quick)
    for digit, lines in STROKES.items():
        draw(page, *lines)
        assert reading(page) == digit
        address = page.evaluate("document.getElementById('pad').toDataURL('image/png')")
        png = io.BytesIO(base64.b64decode(address.partition(",")[2]))
        ink = np.asarray(Image.open(png).getchannel("A"))
        page.click("#clear")
        for side in (28, 14):
            assert np.abs(page_field(page, ink, side) - to_mnist_form(255.0 - ink, side)).mean() <= 1


def test_the_bars_are_the_probabilities_and_undo_and_clear_take_strokes_back(quick, opened):
    page = opened(quick)
    read = page.locator("#reading")
    assert page.locator("#undo").is_disabled()
    assert page.locator("#hint").is_visible()
    draw(page, [(8, 8), (19, 7), (12, 23)])
    texts = shares_of(page)
    shares = [float(text[:-2]) for text in texts]
    assert (len(shares), sum(shares)) == (10, pytest.approx(100, abs=1))
    assert read.inner_text().startswith(f"Reads as {np.argmax(shares)}, with a probability")
    share = "(bars) => bars.map((bar) => 100 * bar.offsetWidth / bar.parentElement.offsetWidth)"
    assert page.locator("#bars .fill").evaluate_all(share) == pytest.approx(shares, abs=1)
    draw(page, [(6, 14), (22, 14)])
    assert shares_of(page) != texts
    page.click("#undo")
    assert shares_of(page) == texts
    page.click("#clear")
    assert shares_of(page) == [""] * 10
    assert read.inner_text().startswith("Draw a digit")
    assert page.locator("#clear").is_disabled()
    assert page.locator("#hint").is_visible()


def test_without_the_networks_activation_the_page_has_a_sentence_in_place_of_the_field(
    quick, opened, tmp_path
):
    path = tmp_path / "page.html"
    path.write_text(re.sub('"activation":"[a-z-]+"', '"activation":"new"', quick.read_text("utf-8")), "utf-8")
    page = opened(path)
    assert page.locator("#pad").count() == 0
    sentence = "There is no field to draw in: this page does not know the activation new."
    assert page.locator("#draw").inner_text() == sentence
    cell = page.locator("#confusion .cell").nth(3)
    cell.hover()
    title = cell.locator("title").text_content()
    assert page.locator("#readout").inner_text() == title
    assert " predicted as " in title


def test_a_finger_draws_without_scrolling_the_page(quick, opened):
    options = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
    page = opened(quick, **options)
    page.locator("#pad").scroll_into_view_if_needed()
    box, before = page.locator("#pad").bounding_box(), page.evaluate("scrollY")
    session = page.context.new_cdp_session(page)
    for kind, at in [("touchStart", 0.2), *(("touchMove", 0.1 * k) for k in range(3, 9))]:
        position = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] * at}
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [position]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert reading(page) == 1
    assert page.evaluate("scrollY") == before


def page_field(page, ink, side):
    """The input (side, side) that the page makes of ink."""
    return np.reshape(page.evaluate(FIELD, [encoded(ink), ink.shape[1], ink.shape[0], side]), (side, side))


def is_wider_than_its_window(page):
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_no_page_is_wider_than_a_phone_and_each_run_has_a_colour(quick, tmp_path, opened):
    features = np.random.default_rng(0).normal(size=(150, 13))
    table = pd.DataFrame(features, columns=[f"a feature with a long name {index}" for index in range(13)])
    table.assign(label=np.arange(150) % 3).to_csv(tmp_path / "table.csv", index=False)
    words = ("--data", tmp_path / "table.csv", "--test-split", 0.5, "--epochs", 3, "--log-every", 1)
    folder = trained(tmp_path / "three", *words, "--repeats", 3)
    assert main(["report", str(folder)]) == 0
    phone = {"width": 320, "height": 800}
    several, table, images = (
        opened(path, viewport=phone)
        for path in (folder / "report.html", write_report(folder / "seed-0"), quick)
    )
    images.locator("summary").click()
    assert not any(map(is_wider_than_its_window, (several, table, images)))
    bars = table.locator(".features .bar").evaluate_all(
        "(bars) => bars.map((bar) => bar.getBoundingClientRect().width)"
    )
    assert bars == sorted(bars, reverse=True)
    strokes = "(lines) => lines.map((line) => getComputedStyle(line).stroke)"
    colours = several.locator("#curves .line").evaluate_all(strokes)
    assert len(set(colours)) == 3
    assert colours[:3] == colours[3:]


def test_the_page_is_dark_where_the_system_is(quick, opened):
    def brightness(scheme):
        page = opened(quick, color_scheme=scheme)
        colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        return [sum(map(int, colour[4:-1].split(","))) for colour in page.evaluate(colours)]

    (light, on_light), (dark, on_dark) = brightness("light"), brightness("dark")
    assert min(light, on_dark) > 600
    assert max(dark, on_light) < 200


def test_without_scripts_the_page_is_there_and_says_what_is_missing(quick, opened):
    page = opened(quick, java_script_enabled=False)
    assert page.locator("noscript").inner_text().startswith("Drawing needs JavaScript")
    assert page.locator("#classes tbody tr").count() == 10
    assert quick.stat().st_size <= 300_000
