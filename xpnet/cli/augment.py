"""``python -m xpnet augment``: a picture of what augmentation makes of the images."""

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from xpnet._lib.files import save
from xpnet.config.augmentation import Augmentation, flag
from xpnet.config.training import check
from xpnet.data.augment import augmenter, square_side
from xpnet.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What is imported below, inside the functions, loads NumPy; --help does without.

IMAGES, VARIANTS = 8, 9
"""Rows, and columns after the first."""

ZOOM, GAP, BORDER, GREY = 2, 4, 8, 96
"""How much larger pixels are drawn; space between images, and how much more after the originals, in
pixels of the picture; its grey."""

DESCRIPTION = """\
Draw the first training images, one a row: the original, then the variants that training with
the same --augment flags and seed makes of it in epochs 1 to 9.

Exit codes: 0 done, 2 bad input, 130 interrupted."""


@dataclass(frozen=True)
class PreviewConfig:
    """The command's flags."""

    preview: Annotated[Path, tyro.conf.arg(metavar="FILE.png")]
    """The picture to write."""

    data: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: the bundled MNIST)")] = None
    """Training data, as in xpnet train."""

    test_data: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: none)")] = None
    """The test data, where --data is a CSV file."""

    augment_shift: float = 0.0
    """Largest shift across and down, in pixels."""

    augment_rotate: float = 0.0
    """Largest rotation, in degrees."""

    augment_scale: float = 0.0
    """Largest change of size: 0.1 is 10 %."""

    augment_shear: float = 0.0
    """Largest slant, in pixels sideways per pixel of height."""

    augment_elastic_alpha: float = 0.0
    """Strength of the elastic deformation, in pixels (MNIST: 34)."""

    augment_elastic_sigma: float = 4.0
    """Its smoothness: the standard deviation of the Gaussian, in pixels."""

    seed: int = 0
    """The seed of the training."""

    debug: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    """Show the whole traceback of an error."""


def main(words: Sequence[str]) -> int:
    """Write the picture and return the exit code."""
    config = tyro.cli(
        PreviewConfig,
        prog="xpnet augment",
        description=DESCRIPTION,
        args=words,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
    )
    if config.preview.suffix.lower() != ".png":
        msg = f"--preview: expected a file name that ends in .png, got {config.preview}"
        raise ConfigError(msg)
    check("seed", config.seed)
    settings = {field.name: getattr(config, f"augment_{field.name}") for field in fields(Augmentation)}
    augmentation = Augmentation(**settings)
    if not augmentation.enabled:
        flags = ", ".join(flag(name) for name in settings if name != "elastic_sigma")
        msg = f"nothing to show: give one or more of {flags}, such as --augment-rotate 15"
        raise ConfigError(msg)
    _write(config.preview, _picture(config, augmentation))
    sys.stdout.write(f"{config.preview}\n")
    return 0


def _picture(config: PreviewConfig, augmentation: Augmentation) -> "NDArray[np.uint8]":
    """Return the grey picture, (height, width): the originals and their variants as training sees them."""
    import numpy as np

    from xpnet._typing import as_array
    from xpnet.arithmetic import Reproducible
    from xpnet.backends.resolve import make
    from xpnet.data import datasets

    data = datasets.load(config.data, config.test_data)
    side = square_side(data.features, pixels=data.x_train.dtype == np.uint8)
    originals = np.ascontiguousarray(data.x_train[:IMAGES])
    indices = np.arange(len(originals))
    backend = make("numpy", "cpu")
    with backend.scope():
        ops = Reproducible(backend.xp, backend.device, backend.xp.float64)
        augment = augmenter(ops, augmentation, side, side, config.seed, backend.from_host)
        variants = [
            np.asarray(augment(as_array(originals), indices, epoch)) for epoch in range(1, VARIANTS + 1)
        ]
    return _grid([rows.reshape(-1, side, side) for rows in (originals, *variants)])


def _grid(columns: "list[NDArray[np.uint8]]") -> "NDArray[np.uint8]":
    """Return the picture of columns of (m, side, side) images, with more space after the first."""
    import numpy as np

    m, side, _ = columns[0].shape
    step = side * ZOOM + GAP
    picture = np.full((GAP + m * step, GAP + len(columns) * step + BORDER), GREY, np.uint8)
    for column, images in enumerate(columns):
        left = GAP + column * step + (BORDER if column else 0)
        for row, image in enumerate(images.repeat(ZOOM, axis=1).repeat(ZOOM, axis=2)):
            top = GAP + row * step
            picture[top : top + side * ZOOM, left : left + side * ZOOM] = image
    return picture


def _write(path: Path, picture: "NDArray[np.uint8]") -> None:
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(picture).save(png, "PNG")
    save(path, png.getvalue())
