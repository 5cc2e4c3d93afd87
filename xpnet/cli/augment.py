"""``python -m xpnet augment``: a picture of images and their augmented variants."""

import io
import sys
from collections.abc import Sequence
from dataclasses import fields

from xpnet._lib.files import save
from xpnet._lib.parser import Parser, path_ending_in
from xpnet._lib.text import plain
from xpnet._typing import HostArray, as_array
from xpnet.config import TrainConfig
from xpnet.config.flags import add_settings, get_settings, replace_underscores
from xpnet.config.settings import AugmentationSettings
from xpnet.config.training import TABLE_SETTINGS
from xpnet.errors import ConfigError

# The imports inside the functions load NumPy, which --help does not need.

IMAGES, VARIANTS = 8, 9
"""The number of images, one a row, and of variants, in the columns after the first."""

ZOOM, GAP, BORDER, GREY = 2, 4, 8, 96
"""Enlargement; space between images and extra space after the originals, in pixels; the grey of both."""

DESCRIPTION = """\
Draw the first training images, one a row: the original, then the variants that training with
the same --augment flags and seed makes of it in epochs 1 to 9."""

AMOUNTS = [field.name for field in fields(AugmentationSettings) if field.name != "augment_fade_epochs"]


def main(words: Sequence[str]) -> int:
    """Write the picture and return the exit code.

    Raises
    ------
    ConfigError
        No distortion is given, or a setting is out of range.
    """
    from PIL import Image

    parser = Parser(prog="xpnet augment", description=DESCRIPTION)
    add, picture = parser.add_argument, path_ending_in(".png")
    add("--preview", type=picture, metavar="FILE.png", required=True, help="The picture to write.")
    add_settings(parser, ("data", "test_data", *TABLE_SETTINGS, *AMOUNTS, "seed"))
    arguments = parser.parse_args(map(replace_underscores, words))
    path, settings = arguments.preview, get_settings(arguments)
    if not any(settings.get(name) for name in AMOUNTS):
        msg = "nothing to show: give a setting of the distortions, such as --augment-rotate 15"
        raise ConfigError(msg)
    png = io.BytesIO()
    Image.fromarray(_draw_picture(TrainConfig(**settings))).save(png, "PNG")
    save(path, png.getvalue())
    sys.stdout.write(f"{plain(path)}\n")
    return 0


def _draw_picture(config: TrainConfig) -> HostArray:
    """Return the grey picture, (height, width) uint8: the originals and their variants as in training."""
    import numpy as np

    from xpnet.arithmetic import Reproducible
    from xpnet.backends.resolve import make
    from xpnet.data import datasets
    from xpnet.data.augment import build_augmenter, square_side

    data = datasets.load(config.data, config.test_data, **config.table_options)
    side = square_side(data.features, pixels=data.x_train.dtype == np.uint8)
    originals = np.ascontiguousarray(data.x_train[:IMAGES])
    backend = make("numpy", "cpu")
    with backend.scope():
        ops = Reproducible(backend.xp, backend.device, backend.xp.float64)
        augment = build_augmenter(ops, config, side, side, config.seed, backend.from_host)
        images, indices = as_array(originals), np.arange(len(originals))
        variants = [np.asarray(augment(images, indices, epoch)) for epoch in range(1, VARIANTS + 1)]
    columns = np.stack([rows.reshape(-1, side, side) for rows in (originals, *variants)])
    tiles = columns.repeat(ZOOM, axis=2).repeat(ZOOM, axis=3)  # (columns, m, height, width)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (GAP, 0), (GAP, 0)), constant_values=GREY)
    height = tiles.shape[1] * tiles.shape[2]
    left, right = (part.transpose(1, 2, 0, 3).reshape(height, -1) for part in (tiles[:1], tiles[1:]))
    border = np.full((height, BORDER), GREY, np.uint8)
    return np.pad(np.hstack([left, border, right]), ((0, GAP), (0, GAP)), constant_values=GREY)
