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
            print(f"{Path(sys.argv[0]).stem}: {module} is not installed: {fix}", file=sys.stderr)
            sys.exit(2)


need("xpnet", "numpy")
