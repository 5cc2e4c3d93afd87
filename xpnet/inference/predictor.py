"""A trained network at work: from raw rows to logits, probabilities and classes."""

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from xpnet._lib.machine import available_cpus
from xpnet._lib.tree import tree_map
from xpnet.arithmetic.blocks import BLOCK_SIZE, block_bounds
from xpnet.backends.base import Backend
from xpnet.backends.resolve import resolve
from xpnet.config.settings import Arithmetic
from xpnet.errors import DataError
from xpnet.inference.context import ComputeContext, build_context
from xpnet.nn import functional as F
from xpnet.nn.inputs import Kind, Normalization
from xpnet.nn.layers import Parameters, RunningStatistics
from xpnet.nn.network import forward, prepare
from xpnet.storage.model_file import SavedModel, load_model, parameters_of
from xpnet.storage.record import MODEL_FILE

PIXEL_SCALE = 1.0 / 255.0
"""What the inputs of a model file are multiplied by that says "scale" and no more."""


class Predictor:
    """A network, its parameters and what computes it.

    Parameters
    ----------
    model
        The network.
    backend
        Who computes; see ``xpnet.backends.resolve``.
    arithmetic
        reproducible or native; by default reproducible for float64 parameters, native for float32.

    Raises
    ------
    BackendError
        The device cannot compute in the dtype that the arithmetic needs.
    """

    def __init__(self, model: SavedModel, backend: Backend, arithmetic: Arithmetic | None = None) -> None:
        self.model, self.backend = model, backend
        double = bool(model.layers[0]["weight"].dtype == np.float64)
        self.arithmetic = arithmetic or ("reproducible" if double else "native")
        self._dtype = dtype = np.dtype("f8" if double or self.arithmetic == "reproducible" else "f4")
        with backend.scope():
            self._context = build_context(
                self.arithmetic, dtype.name, backend, model.network, normalization_of(model)
            )

            def on_device(array: NDArray[np.generic]) -> Any:
                return backend.from_host(array.astype(dtype) + 0.0)

            self._parameters, self._statistics = tree_map(on_device, parameters_of(model))
        self._compute = self._context.compile(_outputs(self._context))

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        device: str = "auto",
        backend: str = "auto",
        arithmetic: Arithmetic | None = None,
    ) -> "Predictor":
        """Return the network of a run's folder, or in a .safetensors file.

        Raises
        ------
        DataError
            There is no model, or it is damaged.
        BackendError
            The backend or device is not usable here.
        """
        model = load_model(model_path(path))
        return cls(model, resolve(device, backend).backend, arithmetic)

    @property
    def classes(self) -> int:
        """How many classes the network tells apart."""
        return self.model.classes

    def logits(self, x: NDArray[np.generic]) -> NDArray[np.floating]:
        """Return the logits (m, classes), in the dtype of the computation, of raw rows (m, features).

        Raises
        ------
        DataError
            The rows do not have the network's features.
        """
        return self.outputs(x)[0]

    def probabilities(self, x: NDArray[np.generic]) -> NDArray[np.floating]:
        """Return the softmax of the logits, (m, classes); errors as in ``logits``."""
        return self.outputs(x)[1]

    def predict(self, x: NDArray[np.generic]) -> NDArray[np.int64]:
        """Return the class of each row, (m,); errors as in ``logits``."""
        classes: NDArray[np.int64] = np.argmax(self.logits(x), axis=1)
        return classes

    def outputs(self, x: NDArray[np.generic]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return logits and probabilities, each (m, classes).

        Raises
        ------
        DataError
            The rows do not have the network's features.
        """
        features = self.model.sizes[0]
        if x.ndim != 2 or x.shape[1] != features:
            msg = f"the model takes rows of {features} features, got an array of shape {x.shape}"
            raise DataError(msg)
        backend = self.backend

        def of_block(bounds: tuple[int, int]) -> Any:
            rows = backend.from_host(np.ascontiguousarray(x[slice(*bounds)]))
            return self._compute(self._parameters, self._statistics, rows)

        logits, probabilities = (np.empty((len(x), self.classes), self._dtype) for _ in range(2))
        bounds = block_bounds(len(x), BLOCK_SIZE)
        with backend.scope(), backend.workers(available_cpus()):
            for (begin, end), block in zip(bounds, backend.map_blocks(of_block, bounds), strict=True):
                logits[begin:end], probabilities[begin:end] = map(backend.to_host, block)
        return logits, probabilities


def model_path(path: Path) -> Path:
    """Return the model file of a run's folder, or `path` itself if it is a file.

    Raises
    ------
    DataError
        There is neither.
    """
    if path.is_dir():
        if not (path / MODEL_FILE).is_file():
            msg = f"{path}: holds no {MODEL_FILE}: expected the folder of a run that has ended"
            raise DataError(msg)
        return path / MODEL_FILE
    if not path.is_file():
        msg = f"{path}: no such file or folder: expected the folder of a run, or a .safetensors file"
        raise DataError(msg)
    return path


def _outputs(context: ComputeContext) -> Any:
    """Return the function from parameters, statistics and raw rows to logits and probabilities by rows."""

    def of_block(parameters: Parameters, running: list[RunningStatistics], x: Any) -> tuple[Any, Any]:
        ops = context.ops
        layers = prepare(ops, parameters)
        logits, _ = forward(ops, layers, context.inputs(x), context.network, running=running)
        transposed = ops.xp.matrix_transpose
        return transposed(logits), transposed(F.softmax(ops, logits))

    return of_block


def normalization_of(model: SavedModel) -> Normalization:
    """Return the normalisation of the inputs."""
    statistics = model.normalization
    scale = PIXEL_SCALE if model.normalize == "scale" else 1.0
    return Normalization(
        cast("Kind", model.normalize),  # SavedModel has checked it
        np.asarray(statistics.get("shift", 0.0), np.float64),
        np.asarray(statistics.get("scale", scale), np.float64),
    )
