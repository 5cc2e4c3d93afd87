"""The section on where the network comes from: command, settings, device, data, versions."""

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from xpnet.config import TrainConfig, resolved
from xpnet.report.markup import Markup, element, joined, section
from xpnet.report.record import shown

if TYPE_CHECKING:
    from xpnet.report.facts import ReportData

BOOKKEEPING = {"debug", "name", "out", "overwrite", "print_config", "quiet", "report", "resume", "track"}
"""Settings that change nothing in the training."""


def origin(facts: "ReportData") -> Markup:
    """Return the section with what run.json says of how the network was made."""
    pairs = [part for label, value in _pairs(facts) for part in (element("dt", label), element("dd", value))]
    settings = _all_settings(facts.story.record["config"])
    return section("record", "The run", element("dl", *pairs, class_="facts"), settings)


def _pairs(facts: "ReportData") -> Iterator[tuple[str, str]]:
    record = facts.story.record
    data, reason = record["data"], record["device_reason"]
    yield "Command", element("code", command_line(record["command"]))
    yield "Settings", _changed_settings(record["config"])
    asked = f" ({record['device_requested']} was asked for; {reason})" if reason else ""
    yield "Device", f"{record['device_used']}, {record['backend']}{asked}"
    samples = f"{len(facts.data.y_train):,} training and {len(facts.data.y_test):,} test samples"
    shape = f"{facts.data.features} features, {facts.predictor.classes} classes"
    yield ("Data", joined([f"{data['name']}: {samples}, {shape}; SHA-256 ", element("code", data["sha256"])]))
    yield "Fingerprint", element("code", facts.fingerprint)
    versions = [f"{name} {shown(version)}" for name, version in record["versions"].items()]
    yield "Versions", ", ".join([*versions, record["python"]])
    yield "Platform", record["platform"]
    git = record["git"]
    if git is not None and git.get("commit"):
        changed = ", with changes" if git.get("dirty") else ""
        yield "Commit", joined([element("code", shown(git["commit"])), changed])
    started, ended = _time(record["started"]), record["ended"]
    yield "Time", f"{started} to {_time(ended)} UTC" if ended else f"{started} UTC, not ended"
    if record.get("error"):
        yield "Error", shown(record["error"])


def command_line(words: list[str]) -> str:
    """Return a command as one would type it; its first word is the program with its own arguments."""
    return " ".join([*words[:1], shlex.join(words[1:])])


def _time(text: str) -> str:
    """Return a time of a record to the second."""
    return text[:19].replace("T", " ")


def _changed_settings(config: Mapping[str, Any]) -> str:
    changed = [f"{name} {shown(config[name])}" for name, differs in _settings(config) if differs]
    return f"{', '.join(changed)}; the others are defaults" if changed else "the defaults"


def _all_settings(config: Mapping[str, Any]) -> Markup:
    rows = [
        element(
            "div",
            element("dt", name),
            element("dd", shown(config[name])),
            class_="changed" if differs else None,
        )
        for name, differs in _settings(config)
    ]
    summary = element("summary", f"All {len(rows)} settings")
    return element("details", summary, element("dl", *rows, class_="settings"))


def _settings(config: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return each setting of the training, and whether it is not the default."""
    defaults = resolved(TrainConfig())
    return [
        (name, config[name] != defaults.get(name, config[name])) for name in config if name not in BOOKKEEPING
    ]
