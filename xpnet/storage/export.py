"""Networks for other tools: a graph of ONNX, and the state of PyTorch modules.

Both take raw rows and include the normalisation of the inputs. The metadata of both name ``xpnet_version``
and ``fingerprint``, and as JSON the lists ``class_names``, ``feature_names`` and ``feature_means``, if the
network has such, and ``categories``, by columns of text. The means replace missing values, and the categories
text, each by features of 1 and 0; the graph does so itself.
"""

import json
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np

import xpnet
from xpnet._lib.extras import install_command
from xpnet._typing import Function
from xpnet.errors import ConfigError
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.layers import EPSILON
from xpnet.storage.model_file import STATISTICS, Tensors, TrainedNetwork, encode_tensors, name_tensors

OPSET, IR_VERSION = 17, 8
"""Those of ONNX 1.12 (2022), which later programs read too."""
ONNX_LIMIT = 2**31 - 2**20
"""Maximum size of the parameters in an ONNX file, in bytes: a protobuf message has less than 2 GiB."""


def encode_onnx(model: TrainedNetwork, *, pixels: bool) -> bytes:
    """Return the bytes of an ONNX file of `model`.

    Its graph takes ``rows`` (batch, features), uint8 if `pixels`, else of the dtype of the parameters; and
    for each column of text that is encoded ``texts.NAME`` (batch,), with "" for missing text. It returns
    ``logits`` and ``probabilities`` (batch, classes), of that dtype, and ``class_index`` (batch,).

    Raises
    ------
    ConfigError
        The package onnx is missing, the format lacks the activation, or the network is too large for it.
    """
    try:
        import onnx
    except ImportError as error:
        problem = f"onnx cannot be imported ({error}): {install_command('onnx')}"
        raise ConfigError(f"--to onnx: {problem}") from error
    size = sum(array.nbytes for array in name_tensors(model).values())
    if size > ONNX_LIMIT:
        limit = f"an ONNX file holds up to {ONNX_LIMIT} bytes of parameters"
        raise ConfigError(f"--to onnx: {limit}, got {size}: use --to torch")
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    opsets += [onnx.helper.make_opsetid("ai.onnx.ml", 3)] if model.columns.categories else []
    versions = {"opset_imports": opsets, "ir_version": IR_VERSION}
    producer = {"producer_name": "xpnet", "producer_version": xpnet.__version__}
    content = onnx.helper.make_model(_build_graph(model, onnx, pixels=pixels), **versions, **producer)
    onnx.helper.set_model_props(content, _make_metadata(model))
    onnx.checker.check_model(content, full_check=True)
    return bytes(content.SerializeToString())


def _build_graph(model: TrainedNetwork, onnx: Any, *, pixels: bool) -> Any:
    """Return the graph of ONNX: nodes, each of which takes the outputs of others, and tensors."""
    dtype = model.layers[0]["weight"].dtype
    normalization = model.normalization
    helper = onnx.helper
    kind, (features, *_, classes) = helper.np_dtype_to_tensor_dtype(dtype), model.sizes
    describe, types = helper.make_tensor_value_info, onnx.TensorProto
    columns = model.columns
    numbers = features - sum(map(len, columns.categories.values()))
    inputs = [describe("rows", types.UINT8 if pixels else kind, ["batch", numbers])]
    nodes: list[Any] = []
    tensors = {}

    def add(
        operator: str,
        *inputs: str | float,
        arrays: Tensors | None = None,
        output: str = "",
        **attributes: Any,
    ) -> str:
        """Add a node that takes these values, numbers and arrays; return the name of its output."""
        output = output or f"{operator}_{len(nodes)}"
        numbers = {str(value): np.asarray(value) for value in inputs if isinstance(value, float)}
        named = arrays or {}
        nodes.append(helper.make_node(operator, [*map(str, inputs), *named], [output], output, **attributes))
        for name, array in {**numbers, **named}.items():
            tensors[name] = onnx.numpy_helper.from_array(array.astype(dtype), name)
        return output

    value = add("Cast", "rows", output="features", to=kind) if pixels else "rows"
    if not pixels and columns.means:
        means = {"feature_means": np.asarray(columns.means)}
        value = add("Where", add("Not", add("IsNaN", value)), value, arrays=means)
    parts = [value]
    for name, categories in columns.categories.items():
        inputs.append(describe(f"texts.{name}", types.STRING, ["batch"]))
        found: Any = {"cats_strings": categories, "zeros": int(columns.zeros), "domain": "ai.onnx.ml"}
        parts.append(add("Cast", add("OneHotEncoder", f"texts.{name}", **found), to=kind))
    value = add("Concat", *parts, axis=1) if columns.categories else value
    if normalization.shift.any():
        value = add("Sub", value, arrays={STATISTICS[0]: normalization.shift})
    if (normalization.scale != 1.0).any():
        value = add("Mul", value, arrays={STATISTICS[1]: normalization.scale}, output="inputs")
    # The attribute epsilon is a float32: the tensor has the rest of 1e-5, which in float64 counts.
    rest = EPSILON - float(np.float32(EPSILON))
    for index, (layer, norm) in enumerate(zip_longest(model.layers, model.norms)):
        if index:
            value = _add_term(add, _find_form(model.activation, "onnx", "ONNX"), value)
        arrays = {f"layers.{index}.{name}": array for name, array in layer.items()}
        is_last = index == len(model.layers) - 1
        value = add("Gemm", value, arrays=arrays, output="logits" if is_last else "", transB=1)
        if norm:
            arrays = {**norm, "running_var": norm["running_var"] + rest}
            arrays = {f"norms.{index}.{name}": array for name, array in arrays.items()}
            value = add("BatchNormalization", value, arrays=arrays, epsilon=EPSILON)
    add("Softmax", value, output="probabilities", axis=1)
    add("ArgMax", value, output="class_index", axis=1, keepdims=0)
    outputs = [describe(name, kind, ["batch", classes]) for name in ("logits", "probabilities")]
    outputs.append(describe("class_index", types.INT64, ["batch"]))
    return helper.make_graph(nodes, "xpnet", inputs, outputs, [*tensors.values()])


def _add_term(add: Function, term: Any, z: str) -> Any:
    """Add the nodes of a term of `z` in ONNX; return the name of their output, or a number as it is."""
    if not isinstance(term, tuple):
        return z if term == "z" else term
    operator, *operands = term
    return add(operator, *(_add_term(add, operand, z) for operand in operands))


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
    modules: list[Any] = [(["Normalize", features], state)]
    layers = zip_longest(pairwise(model.sizes), model.layers, model.norms)
    for index, (sizes, layer, norm) in enumerate(layers):
        if index:
            modules.append(([_find_form(model.activation, "torch", "PyTorch")], {}))
        modules.append((["Linear", *sizes], layer))
        if norm:
            modules.append((["BatchNorm1d", sizes[1]], {**norm, "num_batches_tracked": np.asarray(0)}))
    tensors = {f"{i}.{name}": array for i, (_, part) in enumerate(modules) for name, array in part.items()}
    described = json.dumps([module for module, _ in modules])
    return encode_tensors(tensors, {"modules": described, **_make_metadata(model)})


def _find_form(activation: str, field: str, tool: str) -> Any:
    """Return the form of an activation for another tool, a field of its row."""
    forms = {name: getattr(row, field) for name, row in ACTIVATIONS.items() if getattr(row, field)}
    if activation not in forms:
        raise ConfigError(f"export: no {tool} form of {activation}: expected one of {', '.join(forms)}")
    return forms[activation]


def _make_metadata(model: TrainedNetwork) -> dict[str, str]:
    """Return the metadata of both formats."""
    columns = model.columns
    metadata = {"xpnet_version": xpnet.__version__, "fingerprint": model.fingerprint}
    names = "class_names", "feature_names", "feature_means", "categories"
    lists = columns.classes, columns.features, columns.means, columns.categories
    return metadata | {name: json.dumps(each) for name, each in zip(names, lists, strict=True) if each}
