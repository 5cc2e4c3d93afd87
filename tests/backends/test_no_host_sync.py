"""One training step on PyTorch's meta device, whose arrays hold no numbers.

Reading a number, indexing by a mask or converting to NumPy is an error there, so that a step that passes
never makes a GPU wait for the host.
"""

import pytest
from networks import context_for, gradients_of, on_device, pixels

from xpnet.backends.resolve import make
from xpnet.nn.init import initialize
from xpnet.nn.optim import sgd
from xpnet.training.batches import Samples

pytestmark = pytest.mark.needs("torch")


@pytest.mark.parametrize("hidden", [(), (9, 8)], ids=str)
@pytest.mark.parametrize("batch_size", [None, 1500])
def test_a_step_reads_nothing_back(hidden, batch_size):
    meta = make("torch", "meta")
    x, labels = pixels(2600, 20, 5)
    context = context_for(meta, x)
    layers = on_device(meta, initialize((20, *hidden, 5), 0))
    samples = Samples(meta.from_host(x), meta.from_host(labels))
    order = None if batch_size is None else meta.from_host(labels[:batch_size].astype("int64"))
    gradients = gradients_of(context, layers, samples, order)
    updated, _ = sgd().update(gradients, (), layers, 0.1)
    for layer, start in zip(updated, layers, strict=True):
        assert layer.weight.shape == start.weight.shape
        assert layer.weight.device.type == "meta"
        assert layer.bias.dtype == start.bias.dtype
