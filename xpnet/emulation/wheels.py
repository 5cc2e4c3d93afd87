"""The wheel of CuPy that is installed, and those that are known here."""

from importlib import metadata

from xpnet.errors import BackendError

KNOWN = {"cupy-cuda12x": ("13.6.0", "14.1.0", "14.1.1", "14.2.0"), "cupy-cuda13x": ("14.2.0",)}
"""The versions whose internals are known here, the newest last."""
OTHERS = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy-rocm-6-1", "cupy-rocm-7-0")
"""They all install the same package: which of two is imported cannot be told."""


def find() -> tuple[str, str]:
    """Return name and version of the wheel of CuPy; BackendError if it is not a known one, alone."""
    installed = {name: each.version for name in OTHERS for each in [*metadata.distributions(name=name)][:1]}
    usual, versions = next(iter(KNOWN.items()))
    fix = f"pip install {usual}=={versions[-1]}"
    if len(installed) > 1:
        problem = f"{' and '.join(installed)} are installed, of which one is imported"
        raise BackendError(f"{problem}: pip uninstall {' '.join(installed)}; {fix}")
    known = ", ".join(f"{name} {' and '.join(versions)}" for name, versions in KNOWN.items())
    if not installed:
        raise BackendError(f"CuPy is not installed; the emulated device knows {known}: {fix}")
    ((name, version),) = installed.items()
    if version not in KNOWN.get(name, ()):
        raise BackendError(f"the emulated device knows {known} alone, but found {name} {version}: {fix}")
    return name, version
