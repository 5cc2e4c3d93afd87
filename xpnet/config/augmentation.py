"""The settings of data augmentation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """The limits of the random distortions. Each amount is drawn uniformly from [-limit, limit].

    An image is sheared, scaled and rotated about its centre, and then shifted. The elastic deformation
    is added to that: each pixel is fetched from d pixels further, where d across and d down are
    ``elastic_alpha`` times a field of numbers uniform in [-1, 1), one a pixel, filtered with a
    Gaussian of standard deviation ``elastic_sigma`` whose weights add up to 1 (cut off beyond four
    standard deviations, zeros outside the image: SciPy's ``gaussian_filter(mode="constant")``). Far
    from the edges d has the standard deviation 0.163 alpha / sigma: 1.4 pixels with the alpha of 34 and
    sigma of 4 that suit MNIST.

    Attributes
    ----------
    shift
        Pixels, across and down.
    rotate
        Degrees.
    scale
        Share of the size: 0.1 makes images up to 10 % smaller or larger.
    shear
        Pixels sideways per pixel of height.
    elastic_alpha
        Pixels by which the filtered field is multiplied; 0 leaves the deformation out.
    elastic_sigma
        Standard deviation, in pixels, of the Gaussian that filters the field.
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic_alpha: float = 0.0
    elastic_sigma: float = 4.0

    @property
    def enabled(self) -> bool:
        """True if any amount is not 0, so that variants differ from their image."""
        return any((self.shift, self.rotate, self.scale, self.shear, self.elastic_alpha))
