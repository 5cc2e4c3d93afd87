"""The settings of augmentation, and their limits."""

from dataclasses import dataclass

from xpnet.config import rules
from xpnet.errors import ConfigError

RULES = {
    "shift": rules.between(0.0, 1000.0, "pixels"),
    "rotate": rules.between(0.0, 180.0, "degrees"),
    "scale": rules.between(0.0, 0.9, "a share of the size"),
    "shear": rules.between(0.0, 10.0, "pixels sideways per pixel of height"),
    "elastic_alpha": rules.between(0.0, 10000.0, "pixels"),
    "elastic_sigma": rules.between(0.1, 100.0, "pixels"),
}
"""What each setting may be, by name."""


@dataclass(frozen=True)
class Augmentation:
    """How far images are distorted. Every amount is uniform between its negative and itself.

    An image is slanted, scaled and turned about its centre, and then shifted. The elastic deformation
    is added to that: each pixel is fetched from d pixels further, where d across and d down are
    ``elastic_alpha`` times a field of numbers uniform in [-1, 1), one a pixel, filtered with a
    Gaussian of standard deviation ``elastic_sigma`` whose weights add up to 1 (cut off beyond four
    standard deviations, zeros outside the image: SciPy's ``gaussian_filter(mode="constant")``). Far
    from the edges d has the standard deviation 0.163 alpha / sigma: 1.4 pixels with the alpha of 34 and
    sigma of 4 that suit MNIST.

    Raises
    ------
    ConfigError
        A setting is no number or out of range.
    """

    shift: float = 0.0
    """Pixels, across and down."""

    rotate: float = 0.0
    """Degrees."""

    scale: float = 0.0
    """Share of the size: 0.1 makes images up to 10 % smaller or larger."""

    shear: float = 0.0
    """Pixels sideways per pixel of height."""

    elastic_alpha: float = 0.0
    """Pixels by which the filtered field is multiplied; 0 leaves the deformation out."""

    elastic_sigma: float = 4.0
    """Standard deviation, in pixels, of the Gaussian that filters the field."""

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            value = getattr(self, name)
            if not rule.holds(value):
                msg = f"{flag(name)}: expected {rule.expected}, got {value!r}"
                raise ConfigError(msg)

    @property
    def enabled(self) -> bool:
        """Whether any variant differs from its image."""
        return any((self.shift, self.rotate, self.scale, self.shear, self.elastic_alpha))


def flag(name: str) -> str:
    """Return the command-line flag of the setting ``name``."""
    return rules.flag(f"augment_{name}")
