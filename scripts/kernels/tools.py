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
from pathlib import Path
from typing import NamedTuple

from xpnet.errors import BackendError

NVRTC, DISASSEMBLER = "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvdisasm"
BYTES = 16
"""The length of an instruction, on all architectures since sm_70."""
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)


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


def compile_source(source: str, options: Sequence[str], architecture: str) -> Compiled:
    """Compile a source by NVRTC, for an architecture such as ``sm_90``.

    Raises
    ------
    BackendError
        NVRTC is not installed, or refuses the source.
    """
    load_nvrtc()
    nvrtc = importlib.import_module("cupy_backends.cuda.libs.nvrtc")
    program = nvrtc.createProgram(source, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*options, f"-arch={architecture}"))
        return Compiled(nvrtc.getPTX(program).decode(), b"".join(_functions(nvrtc.getCUBIN(program))))
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program).splitlines() or [str(error)]
        msg = f"NVRTC cannot compile a kernel for {architecture}: {log[0]}"
        raise BackendError(msg) from error
    finally:
        nvrtc.destroyProgram(program)


def _functions(cubin: bytes) -> Iterator[bytes]:
    """Yield the machine code of the functions in an ELF file."""
    (offset,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, offset + i * size) for i in range(count)]
    for name, _, _, _, begin, length in sections:
        if cubin.startswith(b".text.", sections[names][4] + name):
            yield cubin[begin : begin + length]


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
        words = [
            str(_file(DISASSEMBLER, "nvdisasm")),
            "--binary",
            architecture.replace("sm_", "SM"),
            file.name,
        ]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
    opcodes = INSTRUCTION.findall(run.stdout)
    if run.returncode or len(opcodes) * BYTES != sum(map(len, codes)):
        reason = run.stderr.strip().partition("\n")[0] or f"{len(opcodes)} instructions, expected more"
        msg = f"nvdisasm cannot disassemble code of {architecture}: {reason}"
        raise BackendError(msg)
    pieces, begin = [], 0
    for code in codes:
        end = begin + len(code) // BYTES
        pieces.append(opcodes[begin:end])
        begin = end
    return pieces
