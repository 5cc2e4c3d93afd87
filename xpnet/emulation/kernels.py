"""CuPy's kernels, compiled by g++ in place of NVRTC."""

import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xpnet.emulation import build
from xpnet.errors import BackendError

FLAGS = ("-O2", "-fno-math-errno", "-fpermissive", "-w", "-nostdlib")
SANITIZED = ("-O1", "-g", "-fno-math-errno", "-fpermissive", "-w", "-fsanitize=address")
OWN = ("-fsanitize=signed-integer-overflow", "-fno-sanitize-recover")
"""For kernels that the user writes: CuPy's may wrap, as those of NumPy."""
SHARED_ARRAY = re.compile(r"extern\s+__shared__\s+([\w:<> ]+?)\s+(\w+)\[\];")
BOUNDS = r"(?:__launch_bounds__\([^)]*\)\s+)?"
KERNEL = re.compile(rf"(template\s*<[^;{{}}]*>\s*)?__global__\s+{BOUNDS}void\s+{BOUNDS}(\w+)\s*\(")
THREADS = re.compile(r"\b(?:threadIdx|blockIdx|blockDim|gridDim)\b|__sync|__shfl|__ballot|__a(?:ny|ll)\b")
LEAVES = re.compile(r"\b(?:return|break)\s*;")
RAW_OUTPUT = re.compile(r"(?<!const )\bCArray<[^<>]*(?:<[^<>]*>[^<>]*)*>\s+(?!_raw_)\w+\s*[,)]")
"""A parameter to any element of which any thread may write."""
WARP_STEP = re.compile(r"for \([^;]*;[^;]*; \w+ \+= 32\)|(?<!int )\bx = 0;")
"""In CuPy's partition, before and after which the threads of a warp wait for each other without saying so."""
INCLUDES = re.compile(r"\A\s*(?:#include.*\s+)*")
OWN_INCLUDE = re.compile(r"#include\s*[<\"](?!cupy/|cub/|thrust/|cuda)")
"""Of a file that is neither CuPy's nor one of CUDA: it may have changed."""
REDUCTION = re.compile(
    r"(?s)unsigned int _tid = threadIdx.x;(.*?)(_type_reduce _s =.*?_sdata\[_tid\] = _s;)\s+"
    r"__syncthreads\(\);(.*?)if \(_tid < _block\) {\s+_REDUCE\(_block\);\s+}\s+__syncthreads\(\);(\s+})\s+"
    r"if \(_tid < _block_stride\) {\s+_s = _sdata\[_tid\];\s+}\s+if \(_tid < _block_stride && (_i < .*?{)"
)
LOOPS = r"""unsigned _tid = 0;\1for (_tid = 0; _tid < sizeof _sdata_raw / sizeof(_type_reduce); _tid++) {
      _J_offset = _tid / _block_stride, _j_offset = _J_offset * _out_ind.size();
      \2 }\3for (_tid = 0; _tid < _block; _tid++) _REDUCE(_block)\4
    for (_tid = 0; _tid < _block_stride; _tid++) if (ptrdiff_t _i = _i_base + _tid; \5
      _type_reduce _s = _sdata[_tid];"""
"""CuPy's reductions, and loops in place of their threads, which fibers take ten times as long for."""
COMPLEX = re.compile(r"\bcomplex<(?:float|double)>|\bthrust::")


def find_names(source: str) -> list[str]:
    """Return the names of the kernels in a CUDA source that are not templates."""
    return [name for template, name in KERNEL.findall(source) if not template]


def build_kernels(source: str, options: Sequence[str], expressions: Sequence[str] = ()) -> Path:
    """Return the path of a library of the kernels in a CUDA source, with the options of NVRTC.

    `expressions` are instances of templates. BackendError if g++ cannot compile it.
    """
    code = re.sub(r"#include.*", "", source) + " ".join(expressions)
    is_loop = "CUPY_FOR" in source and not THREADS.search(source)
    loops, count = REDUCTION.subn(LOOPS, source)
    leaves = LEAVES.search(source) or RAW_OUTPUT.search(source)
    if count and not leaves and THREADS.findall(loops) == ["blockIdx", "gridDim"]:
        source, is_loop = loops, True
    kinds = {
        "EMULATED_COMPLEX": COMPLEX.search(code),
        "EMULATED_FIBERS": not is_loop,
        "EMULATED_GRID": "wait_for_all((" in source,
        "EMULATED_SEQUENCE": is_loop and leaves,
    }
    has_own = OWN_INCLUDE.search(source)
    includes = "" if has_own else INCLUDES.findall(source)[0]
    defines = [f"#define {kind}" for kind, is_meant in kinds.items() if is_meant]
    tail = [f"EMULATED_KERNEL({name}, {name})" for name in find_names(source)]
    tail += [f"EMULATED_KERNEL(expression{i}, {name})" for i, name in enumerate(expressions)]
    if "bitonic_sort_step" in source:
        source = WARP_STEP.sub(r"__syncwarp(); \g<0>", source)
    source = SHARED_ARRAY.sub(r"static \1 \2[49152 / sizeof(\1)];", source)  # as large as it can be
    flags = _choose_flags(source, options)
    header = "\n".join([*defines, "#include <kernel.h>", includes])
    text = "\n".join([source.removeprefix(includes), *tail])
    if has_own:  # what it includes decides the file's name too
        text += f"// {build.digest(build.preprocess(text, flags))}"
    return build.build("kernel.so", flags, text, header)


def _choose_flags(source: str, options: Sequence[str]) -> list[str]:
    """Return the flags of g++ that correspond to NVRTC's; it fuses products and sums by default."""
    flags = [*FLAGS]
    if os.environ.get(build.SANITIZE):
        flags = [*SANITIZED, *(OWN if "cupy/carray.cuh" not in source else ())]
    fuses = not {"--fmad=false", "-fmad=false"} & set(options)
    flags.append(f"-ffp-contract={'fast' if fuses else 'off'}")
    return flags + [x for x in options if x.startswith(("-D", "-I", "--define-macro", "--include-path"))]


def compile_module(
    source: str,
    options: tuple[str, ...] = (),
    *_: object,
    backend: str = "nvrtc",
    name_expressions: Any = None,
    **__: object,
) -> Any:
    """Take the place of CuPy's function that calls NVRTC: return a module of g++'s kernels."""
    compiler: Any = importlib.import_module("cupy.cuda.compiler")
    expressions = [*(name_expressions or ())]
    if backend != "nvrtc":
        msg = f"the compiler {backend} is not emulated"
        raise compiler.CompileException(msg, source, "kernel", options, backend)
    try:
        library = build_kernels(source, options, expressions)
    except BackendError as error:
        raise compiler.CompileException(str(error), source, "kernel", options, backend) from error
    module = importlib.import_module("cupy.cuda.function").Module()
    module.load(b"EMULATED:" + os.fsencode(library) + b"\0")
    names = {name: f"expression{i}" for i, name in enumerate(expressions)}
    module._set_mapping(names or None)
    return module
