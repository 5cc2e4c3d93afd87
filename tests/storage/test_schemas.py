"""The settings and keys of each schema version of a record: those of a released version never change."""

import json
import shutil
from pathlib import Path

import pytest
import schemas
from checkout import ROOT
from forgeries import put
from recorded_runs import seal

import xpnet
from xpnet.storage.record import SCHEMA_VERSION
from xpnet.storage.schemas import list_keys

FIXTURES = ROOT / "tests" / "fixtures"
RECORDS = {path: json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*/runs/**/run.json"))}


def test_the_lists_are_those_of_the_records_of_each_release_and_of_the_code():
    assert schemas.content() == schemas.FILE.read_text(), "run python scripts/schemas.py"
    assert [len(list_keys(version, "settings")) for version in (1, 2, 3)] == [50, 57, 64]
    for path, record in RECORDS.items():
        version = record["schema_version"]
        assert sorted(record["config"]) == list_keys(version, "settings"), path
        assert sorted(record) == list_keys(version, "record"), path
        assert record["data"].keys() <= {*list_keys(version, "data")}, path
        for segment in record.get("segments", []):
            assert sorted(segment) == list_keys(version, "segment"), path
    assert SCHEMA_VERSION == 4


@pytest.mark.parametrize("place", ["config", "segments[0]"])
def test_a_name_that_its_schema_version_has_not_is_a_difference(place, tmp_path, monkeypatch):
    files = FIXTURES / "0.3.0"
    shutil.copy(files / "shapes.npz", tmp_path)
    run = Path(shutil.copytree(files / "runs" / "stopped", tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    put(run, f"{place.replace('[0]', '.0')}.best_by", "accuracy")
    seal(run)
    difference = f"run.json: {place}.best_by: is no key of a record of schema version 3"
    assert xpnet.verify(run).difference == difference
