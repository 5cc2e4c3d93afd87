"""NVRTC and nvdisasm, from the packages of the extra `kernels`: neither needs a driver."""

import ctypes
import importlib
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from emulation.build import KERNEL_NAME

from xpnet.errors import BackendError

NVRTC, DISASSEMBLER = "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvdisasm"
BYTES = 16
"""The length of an instruction, on all architectures since sm_70."""
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)


class Kernel(NamedTuple):
    """A source of kernels, and the options that CuPy gives NVRTC, but for the architecture."""

    name: str
    source: str
    options: tuple[str, ...]


class Compiled(NamedTuple):
    """What NVRTC makes of a source."""

    ptx: str
    code: bytes
    """The machine code of all functions."""


def check() -> None:
    """Raise BackendError if NVRTC or nvdisasm is not installed."""
    _file(NVRTC, "libnvrtc.so.12")
    _file(DISASSEMBLER, "nvdisasm")


def versions() -> str:
    """Return the versions of NVRTC and nvdisasm, for people."""
    return f"NVRTC {metadata.version(NVRTC)}, nvdisasm {metadata.version(DISASSEMBLER)}"


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


def batches(kernels: Sequence[Kernel]) -> list[list[Kernel]]:
    """Return kernels with the same options together: one call compiles them, and reads the headers once."""
    alike: dict[tuple[str, ...], list[Kernel]] = {}
    for kernel in kernels:
        alike.setdefault(kernel.options, []).append(kernel)
    return list(alike.values())


def join_sources(kernels: Sequence[Kernel]) -> str:
    """Return one source: headers once, and each kernel, numbered, in a namespace without macros of others."""
    includes, pieces = dict[str, None](), []
    for number, (_, source, _) in enumerate(kernels):
        lines = source.splitlines()
        includes.update(dict.fromkeys(line for line in lines if line.startswith("#include")))
        text = "\n".join(line for line in lines if not line.startswith("#include"))
        for name in KERNEL_NAME.findall(source):
            text = re.sub(rf"\b{name}\b", f"{name}_{number}", text)
        macros = dict.fromkeys(re.findall(r"^\s*#define (\w+)", text, re.MULTILINE))
        pieces += [f"namespace kernel_{number} {{", text, "}", *(f"#undef {macro}" for macro in macros)]
    return "\n".join([*includes, *pieces])


def compile_kernels(kernels: Sequence[Kernel], architecture: str) -> list[Compiled]:
    """Compile a batch by NVRTC in one call, for an architecture such as ``sm_90``.

    Raises
    ------
    BackendError
        NVRTC is not installed, or refuses a source.
    """
    load_nvrtc()
    nvrtc = importlib.import_module("cupy_backends.cuda.libs.nvrtc")
    program = nvrtc.createProgram(join_sources(kernels), "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*kernels[0].options, f"-arch={architecture}"))
        ptx, cubin = nvrtc.getPTX(program).decode(), nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program).splitlines() or [str(error)]
        msg = f"NVRTC cannot compile a kernel for {architecture}: {log[0]}"
        raise BackendError(msg) from error
    finally:
        nvrtc.destroyProgram(program)
    texts, codes = [""] * len(kernels), [b""] * len(kernels)
    for text in re.split(r"(?=\.entry )", ptx)[1:]:
        texts[_number(text.partition("(")[0])] += text
    for name, code in _functions(cubin):
        codes[_number(name)] += code
    return list(map(Compiled, texts, codes))


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])


def _functions(cubin: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and machine code of the functions in an ELF file."""
    (offset,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, offset + i * size) for i in range(count)]
    for name, _, _, _, begin, length in sections:
        start = sections[names][4] + name
        if cubin.startswith(b".text.", start):
            yield cubin[start : cubin.index(b"\0", start)].decode(), cubin[begin : begin + length]


def disassemble(codes: Sequence[bytes], architecture: str) -> list[list[str]]:
    """Return the opcodes of several pieces of machine code, such as ``["LDG.E.64", "DADD", …]``.

    Raises
    ------
    BackendError
        nvdisasm is not installed, fails, or leaves out instructions.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(codes))
        file.flush()
        path, device = _file(DISASSEMBLER, "nvdisasm"), architecture.upper().replace("_", "")
        words = [path, "--binary", device, file.name]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
    opcodes = INSTRUCTION.findall(run.stdout)
    if run.returncode or len(opcodes) * BYTES != sum(map(len, codes)):
        reason = run.stderr.strip().partition("\n")[0] or f"{len(opcodes)} instructions, expected more"
        msg = f"nvdisasm cannot disassemble code of {architecture}: {reason}"
        raise BackendError(msg)
    rest = iter(opcodes)
    return [list(islice(rest, len(code) // BYTES)) for code in codes]
