"""The page of several runs: what it says is what their records hold, its texts are harmless."""

import json
import shutil
from pathlib import Path

import pytest
from commands import complaint, printed
from folders import change_record
from report_pages import blobs, checked, parsed, section, trained

from xpnet.report import write_report
from xpnet.storage.record import read_metrics

METRICS = [f"{part}_{name}" for part in ("train", "validation", "test") for name in ("loss", "accuracy")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    words = ["--data", blobs(folder / "blobs.npz"), "--epochs", 5, "--log-every", 2, "--validation", 60]
    trained(folder / "five", *words, "--repeats", 3)
    trained(folder / "other", *words[:4], "--hidden", 7, "--log-every", 1)
    write_report(folder / "five" / "seed-0")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "runs"))
    return Path()


def load(path):
    return json.loads(path.read_text())


def text_of(name, value):
    return f"{100 * value:.2f}\u00a0%" if name.endswith("accuracy") else f"{value:.4f}"


def rows_of(page, identifier):
    table = section(page, identifier).one("tbody").all("tr")
    return {row.one("th").text: [cell.text for cell in row.all("td")] for row in table}


def test_runs_over_seeds_have_one_page_with_mean_and_deviation_links_and_curves(folder, capsys):
    assert printed(capsys, "report", "five") == "five/report.html\n"
    page, summary = checked(Path("five/report.html")), load(Path("five/summary.json"))["figures"]
    figures = {each.one("dt").text: each.one("dd").text for each in page.one("dl").all("div")}
    assert "3 runs over seeds · mean ± standard deviation" in page.one("header").text
    parts = [summary["test_accuracy"][key] for key in ("mean", "standard_deviation")]
    assert figures["test accuracy"] == "± ".join(text_of("accuracy", part) for part in parts)
    rows = rows_of(page, "runs")
    for name in ("seed-0", "seed-1", "seed-2"):
        record = load(Path("five", name, "run.json"))
        assert rows[name][:7] == ["completed", *(text_of(key, record["metrics"][key]) for key in METRICS)]
        assert rows[name][-1] == record["fingerprint"][:12]
    assert [link.attributes["href"] for link in page.all("a")] == ["seed-0/report.html"]
    assert rows_of(page, "differences") == {"seed": ["0", "1", "2"]}
    assert "The fingerprints differ." in section(page, "runs").text
    lines = [*next(section(page, "curves").all("figure")).all("path", class_="line")]
    points = {line.one("title").text: line.attributes["d"].count("L") for line in lines}
    assert points == dict.fromkeys(rows, 2)


def test_runs_are_compared_with_what_differs_and_the_best_of_each_metric_is_marked(folder, capsys):
    metrics = {"test_accuracy": 0.5, "test_loss": 0.2, "seconds": 1.5, "epochs": 3}
    change_record(Path("five/seed-1"), metrics=metrics)
    other = {"test_accuracy": 0.75, "test_loss": 0.3, "seconds": 1.5, "epochs": 4000}
    change_record(Path("other"), metrics=other)
    assert printed(capsys, "report", "five/seed-1", "other") == "comparison.html\n"
    page = checked(Path("comparison.html"))
    expected = {"validation": ["60", "0"], "hidden": ["10", "7"], "log_every": ["2", "1"], "seed": ["1", "0"]}
    assert rows_of(page, "differences") == expected
    rows = section(page, "runs").one("tbody").all("tr")
    marked = [[cell.text for cell in row.all("td") if "class" in cell.attributes] for row in rows]
    assert marked == [["0.2000"], ["75.00\u00a0%"]]


def test_a_run_that_has_not_ended_is_compared_as_far_as_its_record_goes(folder, capsys):
    change_record(Path("other"), status="running", ended=None, metrics=None, fingerprint=None)
    printed(capsys, "report", "five/seed-0", "other")
    page, last = checked(Path("comparison.html")), read_metrics(Path("other/metrics.jsonl"))[-1]
    row = rows_of(page, "runs")["other"]
    assert (row[1:3], row[-1]) == ([text_of(name, last[name]) for name in METRICS[:2]], "\u2013")
    assert "Not every run has a fingerprint." in section(page, "runs").text


def test_names_like_markup_are_harmless_in_texts_and_links(folder, capsys):
    name = "<b> & 'x' #1?"
    shutil.copytree("five/seed-0", name)
    change_record(Path(name), config={**load(Path(name, "run.json"))["config"], "<i>": "<script>"})
    printed(capsys, "report", "other", name)
    page = parsed(Path("comparison.html"))
    assert page.one("a").text == name
    assert page.one("a").attributes["href"] == "%3Cb%3E%20%26%20%27x%27%20%231%3F/report.html"
    assert rows_of(page, "differences")["<i>"] == ["none", "<script>"]


WRONG = [
    ("five", "five/summary.json: damaged: expected the summary of several trainings"),
    ("other five/seed-0 --data blobs.npz", "--data: is for the report of one run"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_bad_input_is_one_line_and_writes_nothing(folder, capsys, words, message):
    Path("five/summary.json").write_text("{}")
    assert message in complaint(capsys, "report", *words.split())
    assert not list(folder.glob("*.html"))
