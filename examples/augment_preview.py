"""Draws the first training images, one a row: the original, then the variants that training with the same
--augment flags and seed makes of it in epochs 1 to 9."""

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image

from xpnet.arithmetic import Reproducible
from xpnet.backends.resolve import make
from xpnet.cli.guard import handle_errors
from xpnet.config import TrainConfig
from xpnet.config.flags import Parser, add_settings, get_settings
from xpnet.config.settings import AugmentationSettings, DataSettings
from xpnet.data import datasets
from xpnet.data.augment import build_augmenter, square_side

IMAGES, VARIANTS = 8, 9  # rows, and columns after the first
ZOOM, GAP, BORDER, GREY = 2, 4, 8, 96  # enlargement; pixels between images, and more after the originals
AMOUNTS = {field.name for field in fields(AugmentationSettings)} - {"augment_fade_epochs"}
DATA = {field.name for field in fields(DataSettings)} - {"validation", "normalize"}


def draw_preview(config):
    data = datasets.load(config.data, config.test_data, **config.table_options)
    side = square_side(data.features, pixels=data.x_train.dtype == np.uint8)
    originals, backend = np.ascontiguousarray(data.x_train[:IMAGES]), make("numpy", "cpu")
    ops = Reproducible(backend.xp, backend.device, backend.xp.float64)
    augment = build_augmenter(ops, config, side, config.seed, backend.from_host)
    variants = [augment(originals, np.arange(len(originals)), epoch) for epoch in range(1, VARIANTS + 1)]
    columns = np.stack([rows.reshape(-1, side, side) for rows in (originals, *variants)])
    tiles = columns.repeat(ZOOM, axis=2).repeat(ZOOM, axis=3)  # (columns, m, height, width)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (GAP, 0), (GAP, 0)), constant_values=GREY)
    height = tiles.shape[1] * tiles.shape[2]
    left, right = (part.transpose(1, 2, 0, 3).reshape(height, -1) for part in (tiles[:1], tiles[1:]))
    border = np.full((height, BORDER), GREY, np.uint8)
    return np.pad(np.hstack([left, border, right]), ((0, GAP), (0, GAP)), constant_values=GREY)


if __name__ == "__main__":
    with handle_errors(debug="--debug" in sys.argv) as output:
        parser = Parser(description=__doc__)
        parser.add_argument("--preview", type=Path, metavar="FILE.png", required=True, help="The picture.")
        add_settings(parser, sorted(DATA | AMOUNTS | {"seed"}))
        args = parser.parse_args()
        if args.preview.suffix.lower() != ".png":
            parser.error(f"argument --preview: expected a file name that ends in .png, got {args.preview}")
        Image.fromarray(draw_preview(TrainConfig(**get_settings(args)))).save(args.preview)
        print(args.preview)
    raise SystemExit(output.code)
