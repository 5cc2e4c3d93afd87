"""What a test may need beyond xpnet's own dependencies, and whether it is here.

A test says ``@pytest.mark.needs("torch")``; one with a `BackendCase` among its parameters needs that backend.
It is collected only where the requirement is met, or where the environment insists on it: then it fails.
"""

import os
import shutil
import sys
import tomllib
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from backend_enum import BackendCase

from xpnet import emulation
from xpnet._lib.switches import parse_switch
from xpnet.backends.probing import DRIVER_FIX, cuda_driver_version
from xpnet.errors import BackendError

MPIEXEC = Path(sys.executable).parent / "mpiexec"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TRACKERS, PROGRAMS = ("wandb", "trackio", "mlflow"), {"browser": CHROMIUMS, "node": ("node",)}
"""Of the programs of a requirement, one must be there."""
LIBRARIES = {
    **{name: (name,) for name in ("coverage", "sklearn", "polars", "pyarrow", "mpmath", "pooch")},
    **{name: (name,) for name in TRACKERS},
    "onnx": ("onnx", "onnxruntime"),
    "browser": ("playwright",),
    "node": (),
    "notebook": ("nbclient", "ipykernel", "matplotlib"),
    "site": ("sphinx", "myst_parser", "furo", "numpydoc", "latex2mathml", "sklearn"),
    "pages": ("sybil",),
    "array-api-extra": ("array_api_extra",),
    "mpi": ("mpi4py",),
    "emulated-cuda": ("cupy", "scipy"),
    "kernels": ("cupy",),
    "index": ("mypy",),
    "others": ("array_api_extra", "scipy", "sklearn"),
}
"""The libraries that each requirement other than a backend consists of."""
VARIABLES = {
    "XPNET_REQUIRE_BACKENDS": tuple(case.value for case in BackendCase),
    "XPNET_REQUIRE_TRACKERS": TRACKERS,
    "XPNET_REQUIRE_EMULATED_CUDA": ("emulated-cuda",),
    **{
        f"XPNET_REQUIRE_{name.upper()}": (name,)
        for name in ("browser", "node", "notebook", "site", "mpi", "kernels", "index", "others")
    },
}
"""Environment variables that insist on requirements, and those they may name; on (1) is all of them."""


CONDITIONS = {
    "mpi": (MPIEXEC.is_file, f"there is no {MPIEXEC}: pip install mpich"),
    "index": (lambda: "index" in required(), "XPNET_REQUIRE_INDEX=1 lets tests install from a package index"),
}


@cache
def missing(name):
    """Return the reason why a requirement is not met, or None; ValueError for an unknown name."""
    if name not in LIBRARIES:
        return _problem_of(BackendCase(name))
    if absent := [library for library in LIBRARIES[name] if not _is_installed(library)]:
        return f"{', '.join(absent)} is not installed"
    if (programs := PROGRAMS.get(name)) and not any(map(shutil.which, programs)):
        return f"none of {', '.join(programs)} is on the PATH"
    is_met, reason = CONDITIONS.get(name, (lambda: True, ""))
    if not is_met():
        return reason
    try:
        if name in {"emulated-cuda", "kernels"}:
            emulation.check()
        if name == "kernels":
            from kernels import tools

            tools.check()
    except BackendError as error:
        return str(error)
    return _other_versions() if name == "others" else None


def _other_versions():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    lines = project["project"]["optional-dependencies"]["others"]
    pinned = [line.split("==") for line in lines if "==" in line]
    names = [name for name, version in pinned if metadata.version(name) != version]
    return f"{', '.join(names)}: another version than that of the extra others" if names else None


@cache
def required():
    """Return the requirements that the environment insists on; ValueError if it names an unknown one."""
    names = set()
    for variable, known in VARIABLES.items():
        value = os.environ.get(variable, "")
        named = {word.strip() for word in value.split(",")} - {""}
        if (is_on := parse_switch(value)) is not None:
            named = set(known if is_on else ())
        if unknown := named - set(known):
            msg = f"{variable}: {', '.join(sorted(unknown))}; expected some of {', '.join(known)}"
            raise ValueError(msg)
        names |= named
    return names


def chromium():
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


def _problem_of(case):
    """Return the reason why a backend cannot run.

    PyTorch and JAX take seconds to import: only if there is a driver are they asked for their GPUs.
    """
    if case in (BackendCase.TORCH_CUDA, BackendCase.JAX_CUDA):
        if not emulation.is_installed() and cuda_driver_version() is None:
            return f"there is no NVIDIA driver; to fix it: {DRIVER_FIX}"
    elif case.device == "cpu" and _is_installed(case.backend_name.replace("-", "_")):
        return None
    probe = case.probe()
    return None if probe.usable else f"{probe.reason}; to fix it: {probe.fix}"


def _is_installed(library):
    spec = find_spec(library)
    return spec is not None and spec.origin is not None  # a plain folder of that name has no origin
