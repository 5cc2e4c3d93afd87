"""The architecture of a network: layer sizes, activation, loss and regularisation."""

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Network:
    """The architecture of a network, without its parameters.

    Attributes
    ----------
    sizes
        The number of features, of units of each hidden layer, and of classes.
    activation
        The activation of the hidden layers: a name in ``functional.ACTIVATIONS``.
    batch_norm
        True if hidden layers apply batch normalisation before the activation.
    input_dropout, hidden_dropout
        The probability that an input, or a hidden unit, is dropped for a sample of an epoch.
    input_noise
        The largest magnitude of the uniform noise that is added to each input for a sample of an epoch.
    loss
        The loss to minimise: a name in ``functional.LOSSES``.
    label_smoothing
        The share of each target that is spread evenly over all classes.
    """

    sizes: tuple[int, ...]
    activation: str = "relu"
    batch_norm: bool = False
    input_dropout: float = 0.0
    hidden_dropout: float = 0.0
    input_noise: float = 0.0
    loss: str = "cross-entropy"
    label_smoothing: float = 0.0

    @property
    def multiplications(self) -> int:
        """The multiplications of a sample's forward pass."""
        return sum(inputs * units for inputs, units in pairwise(self.sizes))


NOTEBOOK = Network((784, 10, 10))
"""The notebook's network, the default of functions that depend on all but the sizes."""


def describe(network: Network) -> str:
    """Return a description such as "784-10-10 network with batch norm"."""
    name = f"{format_sizes(network.sizes)} network"
    return f"{name} with batch norm" if network.batch_norm else name


def format_sizes(sizes: tuple[int, ...]) -> str:
    """Return layer sizes as text: 784-10-10."""
    return "-".join(map(str, sizes))
