"""Pictures of digits: in whatever size, light and file, they come out as MNIST holds them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from xpnet.data import datasets
from xpnet.data.pictures import FIELD, WORKING_SIDE, read_digit, read_grey, to_mnist_form
from xpnet.errors import DataError

PAPER, INK = 235, 30


def seven(pen=24, ink=INK):
    image = Image.new("L", (300, 300), PAPER)
    draw = ImageDraw.Draw(image)
    draw.line([(60, 50), (170, 50), (110, 210)], fill=ink, width=pen, joint="curve")
    return image


def grey(image):
    return np.asarray(image, np.float64)


def form(image):
    return to_mnist_form(grey(image)).astype(int)


def difference(first, second):
    return np.abs(first.astype(int) - second).max()


def nearest(first, second, measure=difference):
    """The difference, where a centre of mass next to the edge of a pixel may fall on either side."""
    padded = np.pad(first, 1)
    moved = (padded[y : y + FIELD, x : x + FIELD] for y in range(3) for x in range(3))
    return min(measure(each, second) for each in moved)


def test_images_of_mnist_come_out_nearly_unchanged_also_dark_on_white_moved_and_enlarged():
    changes = []
    for image in datasets.load().x_test[:20].reshape(-1, FIELD, FIELD):
        sheet = 255 - np.pad(image, ((9, 23), (5, 11)))
        enlarged = sheet.repeat(3, axis=0).repeat(3, axis=1)
        changes += [difference(form(each), image) for each in (image, enlarged)]
    assert np.mean(np.array(changes) <= 12) >= 0.9


def test_a_photograph_of_paper_in_slanting_light_comes_out_as_the_drawing(tmp_path):
    rows, columns = np.mgrid[:300, :300]
    light = 1.0 - 0.4 * columns / 300 - 0.1 * rows / 300
    noise = np.random.default_rng(0).normal(0, 4, (300, 300))
    photograph = np.clip(grey(seven(ink=60)) * light + noise, 0, 255).astype(np.uint8)
    Image.fromarray(photograph).save(tmp_path / "photograph.jpg", quality=70)
    digit = read_digit(tmp_path / "photograph.jpg")
    assert nearest(digit, form(seven()), lambda a, b: np.abs(a.astype(int) - b).mean()) < 6


def test_specks_are_no_part_of_the_digit():
    sheet = seven()
    ImageDraw.Draw(sheet).rectangle((280, 290, 284, 294), fill=0)
    assert difference(form(sheet), form(seven())) <= 6


def test_a_thin_pen_is_made_thicker():
    assert form(seven(pen=2)).sum() == pytest.approx(form(seven(pen=16)).sum(), rel=0.3)


@pytest.mark.parametrize("spread", [0, 20])
def test_a_blank_sheet_is_an_error(spread):
    with pytest.raises(DataError, match="no digit found: nothing stands out"):
        to_mnist_form(np.random.default_rng(0).normal(128, spread, (200, 200)))


def with_alpha(image):
    alpha = Image.fromarray(((PAPER - grey(image)) * 255 / (PAPER - INK)).astype(np.uint8))
    return Image.merge("RGBA", [*Image.new("RGB", image.size, (20, 20, 60)).split(), alpha])


TURNED = Image.Exif()
TURNED[0x0112] = 5  # the camera was turned


@pytest.mark.parametrize(
    ("name", "convert", "options"),
    [
        ("transparent.webp", with_alpha, {}),
        ("film.gif", lambda image: image, {"save_all": True, "append_images": [Image.new("L", (300, 300))]}),
        ("decimals.tif", lambda image: Image.fromarray(grey(image).astype(np.float32) / 255), {}),
        ("turned.jpg", lambda image: image.transpose(Image.Transpose.TRANSPOSE), {"exif": TURNED}),
        ("large.png", lambda image: image.resize((2100, 2100), Image.Resampling.NEAREST), {}),
    ],
)
def test_every_form_of_file_gives_the_same_digit(tmp_path, name, convert, options):
    path = tmp_path / name
    convert(seven()).save(path, **options)
    assert max(read_grey(path).shape) < 2 * WORKING_SIDE
    assert nearest(read_digit(path), form(seven())) <= 12


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("content", [encoded(Image.new("1", (9000, 9000))), encoded(seven())[:600]])
def test_an_image_that_is_too_large_or_cut_short_is_refused(tmp_path, content):
    (tmp_path / "image").write_bytes(content)
    with pytest.raises(DataError, match=r"image: the image is too large, damaged or cut short[^\n]*$"):
        read_digit(tmp_path / "image")


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "image.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match=r"image.png: is no image that can be read: expected PNG"):
        read_digit(tmp_path / "image.png")
