"""Random numbers and affine transforms of augmentation, computed on the host.

Only + - * and division of NumPy's float64, in separate steps: bit-identical on every machine.
"""

import numpy as np
from numpy.typing import NDArray

from xpnet.arithmetic import random
from xpnet.arithmetic.host import sine_and_cosine
from xpnet.config.augmentation import Augmentation

NOISE_STEP = 2.0**-15
"""Factor from signed 16-bit integers to noise in [-1, 1)."""

_AMOUNTS = 5
"""Random words of a sample for its transform; each further one holds four numbers of noise."""


def draw_distortions(
    augmentation: Augmentation,
    height: int,
    width: int,
    seed: int,
    epoch: int,
    indices: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.int16] | None]:
    """Return transforms (2, m, 3) and noise (width, 2, m, height) of the samples with these (m,) indices.

    The transforms are those of ``compute_transforms``; the noise is None without elastic deformation.

    The first 5 random words of a sample give shift across, shift down, rotation, scale and shear, from -1
    to 1. The rest hold signed 16-bit integers, 4 per word from the lowest bits up: (width, 2, height),
    where the axis of length 2 holds displacements across and down.
    """
    elastic = augmentation.elastic_alpha > 0
    fields = 2 * height * width
    count = _AMOUNTS + (-(-fields // 4) if elastic else 0)
    words = random.words_per_index(seed, random.Purpose.AUGMENT, count, epoch=epoch, indices=indices)
    amounts = 2.0 * random.uniform(words[:, :_AMOUNTS]) - 1.0
    matrices = compute_transforms(augmentation, height, width, amounts)
    if not elastic:
        return matrices, None
    noise = words[:, _AMOUNTS:].astype("<u8", copy=False).view("<i2")[:, :fields]
    noise = np.moveaxis(noise.reshape(-1, width, 2, height), 0, 2)
    return matrices, np.ascontiguousarray(noise, dtype=np.int16)


def compute_transforms(
    augmentation: Augmentation, height: int, width: int, amounts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the inverse affine transforms (2, m, 3) for (m, 5) amounts in [-1, 1).

    With a, b, c = result[0] and (X, Y) a pixel's position relative to the image's centre, Y downwards, the
    pixel is sampled at column a X + b Y + c, counted from 0; result[1] gives the row. This inverts

        (X, Y) -> T R S K (X, Y),  K = [1, -k; 0, 1],  S = s,  R = [cos θ, sin θ; -sin θ, cos θ]

    the shear k, the scale s, the counter-clockwise rotation θ and the shift T by t.
    """
    across, down, rotation, scale, shear = amounts.T
    sine, cosine = sine_and_cosine(augmentation.rotate * rotation)
    size = 1.0 + augmentation.scale * scale
    y = np.stack([sine / size, cosine / size])
    x = np.stack([y[1], -y[0]]) + augmentation.shear * shear * y
    centre = np.reshape([(width - 1) / 2, (height - 1) / 2], (2, 1))
    matrix = np.stack([x, y])  # (2, 2, m)
    moved = matrix[:, 0] * (augmentation.shift * across) + matrix[:, 1] * (augmentation.shift * down)
    return np.stack([matrix[:, 0], matrix[:, 1], centre - moved], axis=-1)
