"""The folders of the checkout; the import says in one line what its scripts lack, and ends the process."""

import sys
from importlib.util import find_spec
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
ROOT = SCRIPTS.parent


def need(*modules: str, fix: str = 'pip install -e ".[train]"') -> None:
    """End the process with one line, and exit code 2, unless these modules are installed."""
    for module in modules:
        if find_spec(module) is None:
            _refuse(f"{module} is not installed: {fix}")


def need_own() -> None:
    """End the process likewise unless xpnet is that of this checkout, for what writes into it."""
    package = Path(str(getattr(find_spec("xpnet"), "origin", ""))).resolve().parent
    if package != ROOT / "xpnet":
        _refuse(f"writes into {ROOT}, but xpnet is that of {package.parent}: set PYTHONPATH={ROOT}")


def _refuse(problem: str) -> None:
    print(f"{Path(sys.argv[0]).stem}: {problem}", file=sys.stderr)
    sys.exit(2)


need("xpnet", "numpy")
