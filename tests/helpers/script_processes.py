"""Processes of scripts."""

import os
import subprocess
import sys

from checkout import ROOT
from shared import python_path


def run(*words):
    """Return the lines that a Python process prints that succeeds and says nothing on standard error."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((python_path(), str(ROOT / "docs")))}
    words = [sys.executable, *map(str, words)]
    process = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (process.stdout if process.returncode else "", process.stderr, process.returncode) == ("", "", 0)
    return process.stdout.splitlines()
