"""Networks for other tools: a graph of ONNX, and the state of PyTorch modules.

Both take raw rows and include the normalisation of the inputs. The metadata of both name ``xpnet_version``
and ``fingerprint``, and as JSON the lists ``class_names``, ``feature_names`` and ``feature_means``, if the
network has such. The means replace missing values; the graph does so itself.
"""

import json
from collections.abc import Callable
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np

import xpnet
from xpnet._lib.extras import install_command
from xpnet.errors import ConfigError
from xpnet.nn.functional import LEAK
from xpnet.nn.inputs import Normalization
from xpnet.nn.layers import EPSILON
from xpnet.storage.model_file import STATISTICS, Tensors, TrainedNetwork, encode_tensors, name_tensors

OPSET, IR_VERSION = 17, 8
"""Those of ONNX 1.12 (2022), which later programs read too."""
ONNX_LIMIT = 2**31 - 2**20
"""Maximum size of the parameters in an ONNX file, in bytes: a protobuf message has less than 2 GiB."""
ACTIVATION_FORMS = {"relu": "ReLU", "leaky-relu": "LeakyReLU", "elu": "ELU"}
ACTIVATION_FORMS |= {"tanh": "Tanh", "sigmoid": "Sigmoid"}
"""The classes of torch.nn; in ONNX, leaky ReLU and ELU are computed from the operators of others."""


def is_of_pixels(normalization: Normalization) -> bool:
    """Return whether a normalisation was fitted to uint8 pixels, False if it does not tell.

    Pixels are divided by 255, or standardised by a mean and deviation that all share.
    """
    if normalization.shift.ndim or normalization.scale.ndim:
        return False
    is_divided = normalization.kind == "scale" and float(normalization.scale) == 1.0 / 255.0
    return is_divided or normalization.kind == "standardize"


def encode_onnx(model: TrainedNetwork, *, pixels: bool) -> bytes:
    """Return the bytes of an ONNX file of `model`.

    Its graph takes ``rows`` (batch, features), uint8 if `pixels`, else of the dtype of the parameters. It
    returns ``logits`` and ``probabilities`` (batch, classes), of that dtype, and ``class_index`` (batch,).

    Raises
    ------
    ConfigError
        The package onnx is missing, the format lacks the activation, or the network is too large for it.
    """
    try:
        import onnx
    except ImportError as error:
        problem = f"onnx cannot be imported ({error}): {install_command('onnx')}"
        raise ConfigError.at("--to onnx", problem) from error
    size = sum(array.nbytes for array in name_tensors(model).values())
    if size > ONNX_LIMIT:
        limit = f"an ONNX file holds up to {ONNX_LIMIT} bytes of parameters"
        raise ConfigError.at("--to onnx", f"{limit}, got {size}: use --to torch")
    versions = {"opset_imports": [onnx.helper.make_opsetid("", OPSET)], "ir_version": IR_VERSION}
    producer = {"producer_name": "xpnet", "producer_version": xpnet.__version__}
    content = onnx.helper.make_model(_build_graph(model, onnx, pixels=pixels), **versions, **producer)
    onnx.helper.set_model_props(content, _make_metadata(model))
    onnx.checker.check_model(content, full_check=True)
    return bytes(content.SerializeToString())


def _build_graph(model: TrainedNetwork, onnx: Any, *, pixels: bool) -> Any:
    """Return the graph of ONNX: nodes, each of which takes the outputs of others, and tensors."""
    dtype, normalization, helper = model.layers[0]["weight"].dtype, model.normalization, onnx.helper
    kind, (features, *_, classes) = helper.np_dtype_to_tensor_dtype(dtype), model.sizes
    nodes: list[Any] = []
    tensors: dict[str, Any] = {}

    def add(
        operator: str, *inputs: str, arrays: Tensors | None = None, output: str = "", **attributes: Any
    ) -> str:
        """Add a node that takes these values and arrays; return the name of its output."""
        output, named = output or f"{operator}_{len(nodes)}", arrays or {}
        nodes.append(helper.make_node(operator, [*inputs, *named], [output], output, **attributes))
        for name, array in named.items():
            tensors[name] = onnx.numpy_helper.from_array(array.astype(dtype), name)
        return output

    value = add("Cast", "rows", output="features", to=kind) if pixels else "rows"
    if not pixels and model.columns.means is not None:
        means = {"feature_means": np.asarray(model.columns.means)}
        value = add("Where", add("Not", add("IsNaN", value)), value, arrays=means)
    if normalization.shift.any():
        value = add("Sub", value, arrays={STATISTICS[0]: normalization.shift})
    if (normalization.scale != 1.0).any():
        value = add("Mul", value, arrays={STATISTICS[1]: normalization.scale}, output="inputs")
    # The attribute epsilon is a float32: the tensor has the rest of 1e-5, which in float64 counts.
    rest = EPSILON - float(np.float32(EPSILON))
    for index, (layer, norm) in enumerate(zip_longest(model.layers, model.norms)):
        if index:
            value = _add_activation(add, model.activation, value)
        arrays = {f"layers.{index}.{name}": array for name, array in layer.items()}
        is_last = index == len(model.layers) - 1
        value = add("Gemm", value, arrays=arrays, output="logits" if is_last else "", transB=1)
        if norm is not None:
            arrays = {**norm, "running_var": norm["running_var"] + rest}
            arrays = {f"norms.{index}.{name}": array for name, array in arrays.items()}
            value = add("BatchNormalization", value, arrays=arrays, epsilon=EPSILON)
    add("Softmax", value, output="probabilities", axis=1)
    add("ArgMax", value, output="class_index", axis=1, keepdims=0)
    describe, types = helper.make_tensor_value_info, onnx.TensorProto
    rows = describe("rows", types.UINT8 if pixels else kind, ["batch", features])
    outputs = [describe(name, kind, ["batch", classes]) for name in ("logits", "probabilities")]
    outputs.append(describe("class_index", types.INT64, ["batch"]))
    return helper.make_graph(nodes, "xpnet", [rows], outputs, [*tensors.values()])


def _add_activation(add: Callable[..., str], activation: str, z: str) -> str:
    """Add the nodes of an activation; return the name of their output."""
    if activation == "leaky-relu":  # max(z, 0.01 z): LeakyRelu has its slope in float32
        return add("Max", z, add("Mul", z, arrays={"leak": np.asarray(LEAK)}))
    if activation == "elu":  # max(z, 0) + (exp(min(z, 0)) - 1): not every runtime has Elu
        exponential = add("Exp", add("Min", z, arrays={"zero": np.asarray(0.0)}))
        negative = add("Sub", exponential, arrays={"one": np.asarray(1.0)})
        return add("Add", add("Relu", z), negative)
    return add(_find_form("ONNX", activation).capitalize(), z)


def encode_torch(model: TrainedNetwork) -> bytes:
    """Return the bytes of a .safetensors file with the state of a ``torch.nn.Sequential``.

    Its modules are listed in the metadata ``modules``, as JSON: for each the name of its class and its
    arguments. All are of torch.nn, but for the first, ``Normalize``, with the buffers ``shift`` and ``scale``
    (features,), which returns (rows - shift) * scale. The last one returns the logits.

    Raises
    ------
    ConfigError
        PyTorch lacks the activation.
    """
    dtype, features = model.layers[0]["weight"].dtype, model.sizes[0]
    statistics = {"shift": model.normalization.shift, "scale": model.normalization.scale}
    state = {name: np.broadcast_to(array, features).astype(dtype) for name, array in statistics.items()}
    modules: list[tuple[list[str | int], Tensors]] = [(["Normalize", features], state)]
    layers = zip_longest(pairwise(model.sizes), model.layers, model.norms)
    for index, (sizes, layer, norm) in enumerate(layers):
        if index:
            modules.append(([_find_form("PyTorch", model.activation)], {}))
        modules.append((["Linear", *sizes], layer))
        if norm is not None:
            modules.append((["BatchNorm1d", sizes[1]], {**norm, "num_batches_tracked": np.asarray(0)}))
    tensors = {f"{i}.{name}": array for i, (_, part) in enumerate(modules) for name, array in part.items()}
    described = json.dumps([module for module, _ in modules])
    return encode_tensors(tensors, {"modules": described, **_make_metadata(model)})


def _find_form(tool: str, activation: str) -> str:
    """Return the name of an activation in another tool."""
    if activation not in ACTIVATION_FORMS:
        msg = f"export: no {tool} form of {activation}: expected one of {', '.join(ACTIVATION_FORMS)}"
        raise ConfigError(msg)
    return ACTIVATION_FORMS[activation]


def _make_metadata(model: TrainedNetwork) -> dict[str, str]:
    """Return the metadata of both formats."""
    columns = model.columns
    metadata = {"xpnet_version": xpnet.__version__, "fingerprint": model.fingerprint}
    names = "class_names", "feature_names", "feature_means"
    values = zip(names, (columns.classes, columns.features, columns.means), strict=True)
    return metadata | {name: json.dumps(each) for name, each in values if each is not None}
