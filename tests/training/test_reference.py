"""docs/reproducibility.md and its second implementation, tests/reference.py, agree."""

import re
import sys
from pathlib import Path

import pytest
import reference
from fingerprints import real_data

from xpnet.backends.resolve import make
from xpnet.config import TrainConfig
from xpnet.storage.model_file import fingerprint
from xpnet.training.trainer import Trainer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reproducibility.md"


def on_the_page(pattern):
    """The one fingerprint that the page gives after the pattern."""
    (digest,) = re.findall(pattern + r"`([0-9a-f]{64})`", PAGE.read_text(encoding="utf-8"))
    return digest


def test_reference_imports_only_the_standard_library():
    text = Path(reference.__file__).read_text(encoding="utf-8")
    imported = set(re.findall(r"^ *(?:from|import) +([A-Za-z_]+)", text, re.MULTILINE))
    assert {"math"} <= imported <= sys.stdlib_module_names


@pytest.mark.parametrize("images", [200, pytest.param(5500, marks=pytest.mark.slow)])
def test_fingerprints_at_the_start_and_after_one_epoch(images):
    assert reference.fingerprint_of(reference.initial_network()) == on_the_page(r"\| initial \| ")
    expected = on_the_page(rf"\| {images:,} images \| ")
    assert reference.fingerprint(images) == expected
    trainer = Trainer(TrainConfig(epochs=1), real_data(images), make("numpy", "cpu"))
    assert fingerprint(trainer.model(trainer.fit().state).layers) == expected
