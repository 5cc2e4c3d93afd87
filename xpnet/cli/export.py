"""``xpnet export``: a trained network as a file for ONNX programs or PyTorch.

Write a trained network, with the normalisation of its inputs, as a file for other tools. onnx: a graph from
raw rows to logits, probabilities and class_index. torch: the state of a torch.nn.Sequential, from raw rows to
logits, as .safetensors.

Options
-------
run
    a run, by its folder or name in runs, or a .safetensors file (default: the newest trained run)
--to
    the format
--out
    the file to write (default: RUN/model.onnx or RUN/model-torch.safetensors)
--rows
    onnx: rows of pixels, or of the dtype of the parameters (default: uint8 if the normalisation is one of
    pixels)
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from xpnet._lib.text import plain
from xpnet.config.flags import Parser
from xpnet.errors import ConfigError

# The imports inside the functions load NumPy, which --help does not need.


FORMATS = {"onnx": ("{}.onnx", "encode_onnx", True), "torch": ("{}-torch.safetensors", "encode_torch", False)}
"""The name of a file, in which {} is that of the network's; the function in xpnet.storage.export; and True if
that has --rows, and is called as (model, pixels=...), else as (model)."""


def main(words: Sequence[str]) -> int:
    """Write the file, and print its path. Return the exit code.

    Raises
    ------
    ConfigError
        The arguments contradict each other, or the file cannot be written.
    """
    parser = Parser("xpnet export", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", nargs="?")
    parser.add_argument("--to", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--rows", choices=("auto", "uint8", "float"), default="auto")
    arguments = parser.parse_args(words)
    out, rows = arguments.out, arguments.rows
    file, encoder, has_rows = FORMATS[arguments.to]
    suffix = Path(file).suffix
    if out and out.suffix.lower() != suffix:
        raise ConfigError(f"--out: expected a file name that ends in {suffix}, got {out}")
    if rows != "auto" and not has_rows:
        raise ConfigError(f"--rows {rows}: goes with --to onnx; the PyTorch modules convert all rows")
    from xpnet._lib.files import save
    from xpnet.inference.predictor import load_network, model_path
    from xpnet.storage import export

    run, model, _ = load_network(arguments.run)
    source = model_path(run)
    path = out or source.with_name(file.format(source.stem))
    if path.exists() and path.samefile(source):
        raise ConfigError(f"{path}: is the network itself: choose another --out")
    pixels = model.normalization.is_of_pixels if rows == "auto" else rows == "uint8"
    options = {"pixels": pixels} if has_rows else {}
    save(path, getattr(export, encoder)(model, **options), is_named=out is not None)
    sys.stdout.write(f"{plain(path)}\n")
    return 0
