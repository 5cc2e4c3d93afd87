"""Scripts without what they need."""

import subprocess
import sys

import pytest
from checkout import ROOT

pytestmark = pytest.mark.tooling

NAMES = """benchmark check_kernels check_release cli_reference emulated_cuda export_csv faults fetch_mnist
gpu_check keyword_types make_fixtures misreadings public_names"""
OTHERS = """docs/results/reproduce_mnist_table docs/tile_mnist docs/vectors/make_vectors
examples/browser/browser_page"""


@pytest.mark.parametrize("path", [*(f"scripts/{name}" for name in NAMES.split()), *OTHERS.split()])
def test_without_xpnet_a_script_is_one_line_and_code_2(path):
    words = [sys.executable, "-E", "-S", f"{path}.py"]  # without installed packages
    process = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    line = f'{path.rpartition("/")[2]}: xpnet is not installed: pip install -e ".[train]"\n'
    assert (process.stdout, process.stderr, process.returncode) == ("", line, 2)
