"""Scripts without what they need."""

import subprocess
import sys

import pytest
from checkout import SCRIPTS

pytestmark = pytest.mark.tooling

SCRIPT_NAMES = """benchmark browser_page check_kernels check_release cli_reference emulated_cuda
export_csv faults fetch_mnist gpu_check keyword_types make_fixtures make_vectors misreadings
public_names reproduce_mnist_table tile_mnist"""


@pytest.mark.parametrize("name", SCRIPT_NAMES.split())
def test_without_xpnet_a_script_is_one_line_and_code_2(name):
    words = [sys.executable, "-E", "-S", "-m", name]  # without installed packages
    process = subprocess.run(words, cwd=SCRIPTS, capture_output=True, text=True, check=False)
    line = f'{name}: xpnet is not installed: pip install -e ".[train]"\n'
    assert (process.stdout, process.stderr, process.returncode) == ("", line, 2)
