"""NVRTC and nvdisasm, from the packages of the extra `kernels`: neither needs a driver."""

import ctypes
import importlib
import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from xpnet.emulation.kernels import find_names
from xpnet.errors import BackendError

NVRTC, DISASSEMBLER = "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvdisasm"
PTX_OPCODE = re.compile(r"(?<![\w.%$])[a-z][a-z0-9]*(?:\.[a-z]\w*)+")


class Kernel(NamedTuple):
    """A source of kernels, and the options that CuPy gives NVRTC, but for the architecture."""

    name: str
    source: str
    options: tuple[str, ...]


def check() -> None:
    """Raise BackendError if NVRTC or nvdisasm is not installed."""
    _file(NVRTC, "libnvrtc.so.12")
    _file(DISASSEMBLER, "nvdisasm")


def _file(package: str, name: str) -> Path:
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        files = []
    path = next((Path(x.locate()) for x in files if x.name == name), None)
    if path is None or not path.is_file():
        msg = f'{package} is not installed: pip install -e ".[kernels]"'
        raise BackendError(msg)
    return path


@cache
def load_nvrtc() -> None:
    """Load NVRTC before CuPy looks for it by its name; BackendError if it is not installed."""
    ctypes.CDLL(str(_file(NVRTC, "libnvrtc.so.12")))


def join_sources(kernels: Sequence[Kernel]) -> str:
    """Return one source: headers once, and each kernel, numbered, in a namespace without macros of others."""
    includes, pieces = dict[str, None](), []
    for number, (_, source, _) in enumerate(kernels):
        lines = source.splitlines()
        includes.update(dict.fromkeys(line for line in lines if line.startswith("#include")))
        text = "\n".join(line for line in lines if not line.startswith("#include"))
        for name in find_names(source):
            text = re.sub(rf"\b{name}\b", f"{name}_{number}", text)
        macros = dict.fromkeys(re.findall(r"^\s*#define (\w+)", text, re.MULTILINE))
        pieces += [f"namespace kernel_{number} {{", text, "}", *(f"#undef {macro}" for macro in macros)]
    return "\n".join([*includes, *pieces])


def compile_kernels(kernels: Sequence[Kernel], architecture: str) -> list[tuple[set[str], list[str]]]:
    """Compile kernels with the same options for an architecture such as ``sm_90``, and disassemble them.

    Return the opcodes of each, such as ``add.f64`` in PTX and ``DADD`` in machine code.
    One call of NVRTC for all of them reads the headers once. BackendError if it refuses a source.
    """
    load_nvrtc()
    nvrtc = importlib.import_module("cupy_backends.cuda.libs.nvrtc")
    program = nvrtc.createProgram(join_sources(kernels), "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*kernels[0].options, f"-arch={architecture}"))
    except nvrtc.NVRTCError as error:
        msg = f"NVRTC cannot compile a kernel for {architecture}: {nvrtc.getProgramLog(program)}"
        raise BackendError(msg) from error
    ptx: list[set[str]] = [set() for _ in kernels]
    sass: list[list[str]] = [[] for _ in kernels]
    for text in re.split(r"(?=\.entry )", nvrtc.getPTX(program).decode())[1:]:
        ptx[_number(text.partition("(")[0])].update(PTX_OPCODE.findall(text))
    for function in _disassemble(nvrtc.getCUBIN(program)):
        instructions = function["sass-instructions"]
        sass[_number(function["function-name"])] += [instruction["opcode"] for instruction in instructions]
    return list(zip(ptx, sass, strict=True))


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])


def _disassemble(cubin: bytes) -> list[dict[str, Any]]:
    """Return the functions in an ELF file, as nvdisasm describes them."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(cubin + b"\0")  # CuPy cuts the last byte off
        file.flush()
        words = [_file(DISASSEMBLER, "nvdisasm"), "-json", file.name]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
    if run.returncode:
        msg = f"nvdisasm cannot disassemble: {run.stderr.strip()}"
        raise BackendError(msg)
    return json.loads(run.stdout)[1]
