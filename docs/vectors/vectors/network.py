"""network.json: normalisation of inputs, weights of samples, losses, activations, batch norm, optimisers."""

import numpy as np

from vectors.numbers import Content, Device, hexadecimal, real
from xpnet.config import TrainConfig
from xpnet.data.datasets import Dataset
from xpnet.nn import functional as F, layers as L, optim
from xpnet.nn.inputs import fit_normalization, flush_subnormals
from xpnet.training.score import normalize_weights


def normalization(device: Device, case: Content) -> Content:
    """Return the statistics of training features, a row for each sample; if asked for, the inputs too."""
    dtype = {"pixels": np.uint8, "floats": np.float64, "float32": np.float32}[case["features"]]
    x = np.array(real(case["x"]), dtype)
    fitted = fit_normalization(case["normalize"], x)
    result = {**case, "shift": hexadecimal(fitted.shift), "scale": hexadecimal(fitted.scale)}
    if "inputs" in case:
        inputs = fitted.on_device(device.ops, device.backend.from_host)(device.put(flush_subnormals(x)))
        result["inputs"] = hexadecimal(device.get(inputs).T)
    return result


def weights(case: Content) -> Content:
    """Return the factors of the losses of training samples."""
    labels, x = np.array(case["labels"], dtype=np.int32), np.zeros((len(case["labels"]), 1))
    own = None if case["weights"] is None else np.array(real(case["weights"]))
    data = Dataset(x, labels, x, labels, "by hand", weights=own)
    factors = normalize_weights(data, None, TrainConfig(class_weight=case["class_weight"]))
    return {**case, "factors": hexadecimal(factors)}


def losses(device: Device, case: Content) -> Content:
    """Return losses and dZ of samples, by column."""
    ops, loss, smoothing = device.ops, F.LOSSES[case["loss"]], real(case["label_smoothing"])
    z = device.put(real(case["z"]))
    codes = device.backend.from_host(np.array(case["labels"], dtype=np.int32))
    y = F.targets(ops, codes, len(case["z"]), smoothing)
    per_sample = loss.per_sample(ops, z, y)
    return {
        **case,
        "y": hexadecimal(device.get(y)),
        "losses": hexadecimal(device.get(per_sample)[0]),
        "sum": hexadecimal(device.get(ops.sum(per_sample, axis=-1))[0, 0]),
        "dz": hexadecimal(device.get(loss.backward(ops, F.softmax(ops, z), y))),
    }


def activations(device: Device, file: Content) -> Content:
    """Return [z, da, a, dz] of each activation, for the same z and da."""
    rows = next(iter(file.values()))
    z, da = device.put(real([row[0] for row in rows])), device.put(real([row[1] for row in rows]))
    result = {}
    for name, activation in F.ACTIVATIONS.items():
        a = activation.forward(device.ops, z)
        dz = activation.backward(device.ops, da, z, a)
        result[name] = hexadecimal(np.stack([device.get(array) for array in (z, da, a, dz)], axis=1))
    return result


def batch_norm(device: Device, case: Content) -> Content:
    """Return batch normalisation of a block, forward and backward, and the running statistics after it."""
    inputs = {name: device.put(real(values)) for name, values in case.items()}
    layer = L.BatchNorm(inputs["gamma"], inputs["beta"])
    running = L.RunningStatistics(inputs["mean before"], inputs["variance before"])
    y, normalized = L.batch_norm(device.ops, layer, inputs["z"])
    gradient, dz = L.batch_norm_backward(device.ops, layer, normalized, inputs["dy"])
    factors = L.mean_and_variance_factors(len(case["z"][0]))
    updated = L.update_running_statistics(running, normalized.sums, factors)
    evaluated = L.batch_norm_inference(device.ops, layer, running, inputs["z"])
    computed = {"y": y, "dgamma": gradient.gamma, "dbeta": gradient.beta, "dz": dz}
    computed |= {"mean after": updated.mean, "variance after": updated.variance, "y in evaluation": evaluated}
    return {**case, **{name: hexadecimal(device.get(array)) for name, array in computed.items()}}


def optimizer_steps(device: Device, case: Content) -> Content:
    """Return the steps of an optimiser on one layer."""
    settings = {
        name: value if name == "optimizer" else real(value) for name, value in case["settings"].items()
    }
    optimizer = optim.build(device.ops, settings["optimizer"], **TrainConfig(**settings).optimizer_options)
    parameters: L.Parameters = [L.Linear(*(device.put(real(case[name])) for name in ("W", "b")))]
    state, steps = optimizer.init(parameters), []
    for step in case["steps"]:
        gradients: L.Parameters = [L.Linear(*(device.put(real(step[name])) for name in ("dW", "db")))]
        parameters, state = optimizer.update(gradients, state, parameters, real(step["rate"]))
        weight, bias = map(device.get, parameters[0])
        steps.append({**step, "W": hexadecimal(weight), "b": hexadecimal(bias)})
    of_state = {"v": hexadecimal(device.get(state.v[0].weight))} if "v" in case else {}
    return {**case, "steps": steps, **of_state}


def content(device: Device, file: Content) -> Content:
    """Return the entries of the file."""
    return {
        "normalisation": [normalization(device, case) for case in file["normalisation"]],
        "weights": [weights(case) for case in file["weights"]],
        "losses": [losses(device, case) for case in file["losses"]],
        "activations": activations(device, file["activations"]),
        "batch normalisation": [batch_norm(device, case) for case in file["batch normalisation"]],
        "optimisers": [optimizer_steps(device, case) for case in file["optimisers"]],
    }
