"""The figures of the table as JSON, and what an earlier record adds to them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from papers.page import Candidate, RowResults, SeedResult
from papers.rows import Row
from papers.runs import WITHOUT_CONSEQUENCE, final_job
from xpnet.config import TrainConfig, to_json
from xpnet.errors import DataError


def record(rows: Sequence[RowResults]) -> dict[str, Any]:
    """Return all figures as JSON values."""
    return {"rows": [_row_record(row) for row in rows]}


def _row_record(results: RowResults) -> dict[str, Any]:
    row = results.row
    return {
        "row": row.key,
        "network": results.sizes,
        "training": row.training,
        "published_test_error": None if row.published is None else float(row.published),
        "source": row.source,
        "flags": row.flags,
        "settings": settings(row),
        "test_error_mean": results.mean,
        "test_error_standard_deviation": results.deviation,
        "matched": results.matched or None,
        "trained": [asdict(trained) for trained in results.trained],
        "candidates": [asdict(candidate) for candidate in results.candidates],
    }


def settings(row: Row) -> dict[str, Any]:
    """Return the settings that a row is trained with, where they are not the defaults."""
    plain = to_json(TrainConfig())
    own = to_json(final_job(Path(), row, 0).config)
    return {
        name: value for name, value in own.items() if value != plain[name] and name not in WITHOUT_CONSEQUENCE
    }


def with_earlier(rows: Sequence[RowResults], path: Path) -> list[RowResults]:
    """Return the results, and what the record at ``path`` has of them from trainings that are gone.

    A row keeps its earlier seeds if its settings are the same, and all its candidates.

    Raises
    ------
    DataError
        The record is damaged.
    """
    try:
        earlier = {row["row"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
        return [_with_earlier(row, earlier.get(row.row.key, {})) for row in rows]
    except FileNotFoundError:
        return [*rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path}: damaged: remove it, the page then holds what is trained now"
        raise DataError(msg) from error


def _with_earlier(results: RowResults, earlier: Mapping[str, Any]) -> RowResults:
    same = earlier.get("settings") == settings(results.row)
    seeds = [SeedResult(**run) for run in earlier["trained"]] if same else []
    tried = [Candidate(**candidate) for candidate in earlier.get("candidates", ())]
    trained = _merge(results.trained, seeds, lambda run: run.seed)
    candidates = _merge(results.candidates, tried, lambda candidate: candidate.flags)
    return replace(results, trained=sorted(trained, key=lambda run: run.seed), candidates=candidates)


def _merge(new: Sequence[Any], old: Sequence[Any], key: Callable[[Any], Any]) -> list[Any]:
    """Return the items of both; of two with the same key, the new one."""
    return list(({key(item): item for item in old} | {key(item): item for item in new}).values())
