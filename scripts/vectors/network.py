"""network.json: normalisation of inputs, weights of samples, losses, activations, batch norm, optimisers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vectors.numbers import Device, Reals, hexadecimal, hexadecimals, reals, uniform
from xpnet.backends.base import Backend
from xpnet.config import TrainConfig
from xpnet.data.arrays import normalize_weights
from xpnet.data.datasets import Dataset
from xpnet.nn import functional as F
from xpnet.nn import layers as L
from xpnet.nn import optim
from xpnet.nn.inputs import fit_normalization


def matrix(rows: int, columns: int, index: int, size: float = 2.0) -> Reals:
    """Return a matrix of numbers from -`size` to `size`."""
    return reals(rows * columns, index=index, low=-size, high=size).reshape(rows, columns)


def pixels(rows: int, columns: int, index: int) -> NDArray[np.uint8]:
    """Return a matrix of pixels."""
    return np.floor(uniform(rows * columns, index=index) * 256.0).astype(np.uint8).reshape(rows, columns)


def normalization(kind: Any, x: NDArray[Any]) -> dict[str, Any]:
    """Return the statistics of training features, a row for each sample."""
    fitted = fit_normalization(kind, x)
    whole = x.dtype == np.uint8
    return {
        "normalize": kind,
        "features": "pixels" if whole else "floats",
        "x": x.tolist() if whole else hexadecimals(x),
        "shift": hexadecimals(fitted.shift),
        "scale": hexadecimals(fitted.scale),
    }


def normalizations() -> list[dict[str, Any]]:
    """Return the statistics of pixels and of floats, of all kinds."""
    floats = matrix(7, 3, 500) * np.array([1.0, 0.01, 100.0]) + np.array([0.0, 1000.0, -3.0])
    constant = np.stack([floats[:, 0], np.full(7, 0.1), np.zeros(7)], axis=1)
    grey = np.full((3, 4), 77, dtype=np.uint8)
    cases = [(kind, x) for kind in ("none", "scale", "standardize") for x in (pixels(5, 4, 510), floats)]
    bright = pixels(6, 5, 525) // 64 + 200
    cases += [
        ("standardize", bright),
        ("standardize", grey),
        ("standardize", np.zeros((3, 4), np.uint8)),
        ("standardize", constant),
    ]
    cases += [("scale", np.zeros((3, 2))), ("scale", -np.abs(floats)), ("standardize", floats[:1])]
    cases += [("standardize", pixels(1, 4, 520)), ("scale", np.zeros((2, 3), np.uint8))]
    return [normalization(kind, x) for kind, x in cases]


def weights() -> list[dict[str, Any]]:
    """Return the factors of the losses of training samples."""
    labels = np.array([0, 1, 1, 2, 1, 1, 0, 2, 1, 1], dtype=np.int32)
    own = np.array([1.0, 0.5, 0.25, 0.1, 0.7, 1.0, 0.3, 0.9, 0.2, 0.6])
    cases: list[tuple[Any, Any]] = [(None, "balanced"), (own, "none"), (own, "balanced")]
    results = []
    for given, setting in cases:
        x = np.zeros((10, 1))
        data = Dataset(x, labels, x, labels, "by hand", weights=given)
        factors = normalize_weights(data, None, TrainConfig(class_weight=setting))
        results.append(
            {
                "labels": labels.tolist(),
                "weights": None if given is None else hexadecimals(given),
                "class_weight": setting,
                "factors": hexadecimals(factors),
            }
        )
    return results


def losses(device: Device) -> list[dict[str, Any]]:
    """Return losses and dZ of four samples, by column."""
    ops, results = device.ops, []
    logits = matrix(3, 4, 530, 4.0)
    logits[:, 3] = [700.0, 0.0, -700.0]
    labels = np.array([0, 2, 1, 0], dtype=np.int32)
    z, codes = device.put(logits), device.backend.from_host(labels)
    for name, loss in F.LOSSES.items():
        for smoothing in (0.0, 0.23):
            y = F.targets(ops, codes, 3, smoothing)
            per_sample = loss.per_sample(ops, z, y)
            results.append(
                {
                    "loss": name,
                    "label_smoothing": hexadecimal(smoothing),
                    "z": hexadecimals(logits),
                    "labels": labels.tolist(),
                    "y": hexadecimals(device.get(y)),
                    "losses": hexadecimals(device.get(per_sample)[0]),
                    "sum": hexadecimal(device.get(ops.sum(per_sample, axis=-1))[0, 0]),
                    "dz": hexadecimals(device.get(loss.backward(ops, F.softmax(ops, z), y))),
                }
            )
    return results


def activations(device: Device) -> dict[str, Any]:
    """Return [z, da, a, dz] of each activation."""
    points = [0.0, -0.0, 1.0, -1.0, 0.3, -0.3, 0.7, -0.7, 30.0, -30.0, *matrix(1, 10, 540, 5.0)[0].tolist()]
    z, da = device.put(points), device.put(matrix(1, 20, 541)[0])
    result = {}
    for name, activation in F.ACTIVATIONS.items():
        a = activation.forward(device.ops, z)
        dz = activation.backward(device.ops, da, z, a)
        result[name] = hexadecimals(np.stack([device.get(array) for array in (z, da, a, dz)], axis=1))
    return result


def batch_norms(device: Device) -> list[dict[str, Any]]:
    """Return batch normalisations of a block, forward and backward, and the running statistics after it."""
    results = []
    for units, samples, index in ((3, 5, 550), (2, 16, 560)):
        z, dy = matrix(units, samples, index), matrix(units, samples, index + 1)
        z[-1] = 0.75  # a unit without variance
        gamma, beta, mean = (matrix(units, 1, index + place) for place in (2, 3, 4))
        variance = np.abs(matrix(units, 1, index + 5))
        layer = L.BatchNorm(device.put(gamma), device.put(beta))
        running = L.RunningStatistics(device.put(mean), device.put(variance))
        y, normalized = L.batch_norm(device.ops, layer, device.put(z))
        gradient, dz = L.batch_norm_backward(device.ops, layer, normalized, device.put(dy))
        factors = L.mean_and_variance_factors(samples)
        updated = L.update_running_statistics(running, normalized.sums, *factors)
        evaluated = L.batch_norm_inference(device.ops, layer, running, device.put(z))
        numbers = {"z": z, "dy": dy, "gamma": gamma, "beta": beta, "mean before": mean}
        numbers |= {"variance before": variance}
        computed = {"y": y, "dgamma": gradient.gamma, "dbeta": gradient.beta, "dz": dz}
        computed |= {"mean after": updated.mean, "variance after": updated.variance}
        computed |= {"y in evaluation": evaluated}
        numbers |= {name: device.get(array) for name, array in computed.items()}
        results.append({name: hexadecimals(array) for name, array in numbers.items()})
    return results


OPTIMIZERS: list[dict[str, Any]] = [
    {"optimizer": "sgd"},
    {"optimizer": "momentum"},
    {"optimizer": "nesterov", "momentum": 0.5},
    {"optimizer": "adam"},
    {"optimizer": "adamw"},
    {"optimizer": "sgd", "weight_decay": 0.1, "clip_norm": 1.0, "max_norm": 1.5},
    {"optimizer": "adamw", "weight_decay": 0.3, "clip_norm": 100.0, "max_norm": 100.0},
    {"optimizer": "nesterov", "weight_decay": 0.1, "clip_norm": 0.5},
]


def optimizers(device: Device) -> list[dict[str, Any]]:
    """Return three steps of each optimiser, on one layer of two units and three inputs."""
    results = []
    for case in OPTIMIZERS:
        optimizer = optim.build(device.ops, case["optimizer"], **TrainConfig(**case).optimizer_options)
        start = [matrix(2, 3, 570), matrix(2, 1, 571)]
        parameters: L.Parameters = [L.Linear(*map(device.put, start))]
        state, steps = optimizer.init(parameters), []
        for step, rate in enumerate((0.1, 0.05, 0.025)):
            gradient = [matrix(2, 3, 572 + step), matrix(2, 1, 575 + step)]
            gradients: L.Parameters = [L.Linear(*map(device.put, gradient))]
            parameters, state = optimizer.update(gradients, state, parameters, rate)
            arrays = dict(
                zip(("dW", "db", "W", "b"), [*gradient, *map(device.get, parameters[0])], strict=True)
            )
            steps.append({"rate": hexadecimal(rate), **{name: hexadecimals(x) for name, x in arrays.items()}})
        texts = {key: value if isinstance(value, str) else hexadecimal(value) for key, value in case.items()}
        results.append(
            {"settings": texts, "W": hexadecimals(start[0]), "b": hexadecimals(start[1]), "steps": steps}
        )
    return results


def content(backend: Backend) -> dict[str, Any]:
    """Return the file."""
    device = Device.of(backend)
    return {
        "normalisation": normalizations(),
        "weights": weights(),
        "losses": losses(device),
        "activations": activations(device),
        "batch normalisation": batch_norms(device),
        "optimisers": optimizers(device),
    }
