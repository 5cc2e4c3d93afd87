"""Each activation and each optimiser is in every place that names them all, and that no script writes."""

import re
from typing import get_args

import cli_reference
import pytest
from activations import ORACLES
from checkout import ROOT
from reference_network import ACTIVATIONS as IN_REFERENCE

from xpnet.config import settings
from xpnet.nn.functional import ACTIVATIONS
from xpnet.nn.optim import OPTIMIZERS


def words(path, begin="", end="", pattern=r"[\"`]([a-z-]+)[\"`]"):
    """The names in a part of a file: in quotes, or as the pattern finds them."""
    text = (ROOT / path).read_text(encoding="utf-8")
    part = text.partition(begin)[2].partition(end)[0] if begin else text
    return set(re.findall(pattern, part, re.MULTILINE))


PAGE, SCRIPT, KEYS = "docs/reproducibility.md", "examples/browser/xpnet.js", r"^  \"?([a-z-]+)\"?:"
PLACES = {
    "activation": {
        "ActivationName of xpnet/config/settings.py": get_args(settings.ActivationName),
        "ORACLES of tests/helpers/activations.py": ORACLES,
        "ACTIVATIONS of tests/reference_network.py": IN_REFERENCE,
        f"ACTIVATIONS of {SCRIPT}": words(SCRIPT, "export const ACTIVATIONS = {", "\n};", KEYS),
        f"section 9.2 of {PAGE}": words(PAGE, "### 9.2 ", "### 9.3 ", r"^    ([a-z-]+) "),
        "docs/math.md": words("docs/math.md", "## Activations", "## "),
        "docs/training.md": words("docs/training.md", "- Activation: ", "\n", "[a-z-]+"),
    },
    "optimizer": {
        "OptimizerName of xpnet/config/settings.py": get_args(settings.OptimizerName),
        "tests/reference_optimisers.py": words("tests/reference_optimisers.py"),
        f"OPTIMIZERS of {SCRIPT}": words(SCRIPT, "export const OPTIMIZERS = {", "\n};", KEYS),
        f"section 10.3 of {PAGE}": words(PAGE, "### 10.3 ", "### 10.4 ", r"(?:^    |(?<=[a-z], ))([a-z]+)"),
        "docs/math.md": words("docs/math.md", "## Optimisers", "## "),
    },
}


@pytest.mark.parametrize(("setting", "table"), [("activation", ACTIVATIONS), ("optimizer", OPTIMIZERS)])
def test_each_place_has_every_name(setting, table):
    missing = {place: {*table} - {*names} for place, names in PLACES[setting].items()}
    lines = [f"{place} lacks {', '.join(names)}" for place, names in missing.items() if names]
    assert not lines, "\n".join(lines)


def test_the_table_of_optimisers_is_that_of_the_rows():
    page = cli_reference.TRAINING.read_text(encoding="utf-8")
    assert cli_reference.optimizers() in page, "run python scripts/cli_reference.py"
