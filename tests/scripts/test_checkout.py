"""Scripts without what they need."""

import subprocess
import sys

import pytest
from checkout import SCRIPTS

pytestmark = pytest.mark.tooling

NEED_XPNET = """check_kernels check_release cli_reference emulated_cuda export_csv faults fetch_mnist
gpu_check gpu_steps keyword_types make_fixtures make_vectors public_names tile_mnist"""


@pytest.mark.parametrize("name", NEED_XPNET.split())
def test_without_xpnet_a_script_is_one_line_and_code_2(name):
    words = [sys.executable, "-E", "-S", str(SCRIPTS / f"{name}.py")]  # without installed packages
    process = subprocess.run(words, capture_output=True, text=True, check=False)
    line = f"{name}: xpnet is not installed: pip install -e .\n"
    assert (process.stdout, process.stderr, process.returncode) == ("", line, 2)
