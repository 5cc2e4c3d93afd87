"""The report: what it says is what the run did, its texts are harmless, its errors are one line."""

import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import complaint, printed
from folders import change_record, tree
from report_pages import blobs, checked, image_of, parsed, section, trained

import xpnet
from xpnet.data import datasets
from xpnet.nn.columns import Columns
from xpnet.nn.metrics import class_metrics, confusion_matrix
from xpnet.report import write_report
from xpnet.report.charts import select_evenly
from xpnet.storage.model_file import encode_model, load_model
from xpnet.storage.record import read_metrics, read_run

SETTINGS = ["--epochs", 6, "--batch-size", 50, "--validation", 60, "--hidden", 9, 8, "--batch-norm"]
SETTINGS += ["--activation", "leaky-relu", "--patience", 9]
EVIL = "<script>alert(1)</script>&\"'<img src=x onerror=alert(1)>\u2028\u2029"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return trained(folder / "made", "--data", blobs(folder / "blobs.npz"), *SETTINGS)


@pytest.fixture
def run(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture(scope="module")
def page(made):
    return checked(write_report(made, out=made.parent / "page.html"))


@pytest.fixture(scope="module")
def evaluated(made):
    data, model = datasets.load(made.parent / "blobs.npz"), xpnet.load(made, device="cpu")
    return data, model.predict(data.x_test), model.predict_proba(data.x_test)


def test_the_command_writes_one_page_that_needs_no_other_file_and_prints_where(run, capsys):
    assert printed(capsys, "report", run) == f"{run / 'report.html'}\n"
    page = (run / "report.html").read_bytes()
    addresses = re.findall(r"""(?:src|href|action|url)\s*[=(]\s*["']?([^"')\s>]+)""", page.decode())
    assert [address for address in addresses if not address.startswith(("data:", "#"))] == []
    (policy,) = parsed(run / "report.html").all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert re.match("default-src 'none'; img-src data:; (?!.*unsafe)", policy.attributes["content"])
    printed(capsys, "report", run, "--out", run.parent / "there.html")
    assert (run.parent / "there.html").read_bytes() == page  # the same run gives the same page


def test_the_summary_says_what_was_trained_where_and_on_what(made, page):
    record = read_run(made)
    metrics, text = record["metrics"], page.one("header").text + section(page, "record").text
    assert page.one("h1").text == "made"
    expected = [
        *("completed", "network 144-9-8-3", record["fingerprint"], record["data"]["sha256"], "cpu, numpy"),
        *(f"{100 * metrics[f'{part}_accuracy']:.2f}\u00a0%" for part in ("test", "validation")),
        *(f"{metrics['test_loss']:.4f}", "--activation leaky-relu", record["platform"]),
        f"{144 * 9 + 9 + 9 * 8 + 8 + 8 * 3 + 3 + 2 * (9 + 8):,}",
        "300 training and 300 test samples, 144 features, 3 classes",
    ]
    assert [words for words in expected if words not in text] == []
    changed = {row.one("dt").text for row in page.all("div", class_="changed")}
    flags = [flag[2:].replace("-", "_") for flag in map(str, SETTINGS) if flag[:2] == "--"]
    assert changed == {"data", *flags}


def test_each_line_has_the_epochs_with_its_values_and_the_best_is_marked(made, page):
    best, rows = read_run(made)["metrics"]["best_epoch"], read_metrics(made / "metrics.jsonl")[1:]
    figure = next(section(page, "curves").all("figure"))
    for name in ("train", "validation"):
        assert figure.one("path", class_=name).attributes["d"].count("L") == len(rows) - 1
        dots = [*figure.all("circle", class_=name)]
        texts = [f"epoch {row['epoch']}, {name} {row[f'{name}_loss']:.3g}" for row in rows]
        assert [dot.text for dot in dots] == texts
    mark = figure.one("path", class_="mark").attributes["d"]
    assert mark.startswith(f"M{dots[best - 1].attributes['cx']} ")


def test_each_class_has_its_metrics_and_the_confusion_matrix_a_count_in_each_cell(page, evaluated):
    data, predicted, _ = evaluated
    confusion = confusion_matrix(predicted, data.y_test, 3)
    rows = section(page, "classes").one("tbody").all("tr")
    for index, (row, scores) in enumerate(zip(rows, class_metrics(predicted, data.y_test, 3), strict=True)):
        shares = [f"{100 * share:.1f}\u00a0%" for share in (scores.precision, scores.recall, scores.f1)]
        assert [cell.text for cell in row.all()][:5] == [str(index), str(scores.support), *shares]
    cells = [cell.one("title").text for cell in page.one(id="confusion").all("g", class_="cell")]
    assert [int(text.split()[4]) for text in cells] == confusion[confusion > 0].tolist()


def surest_mistakes(labels, probabilities):
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return sorted(wrong, key=lambda index: -probabilities[index].max())[:20]


def test_the_mistakes_are_those_of_which_the_network_is_surest(page, evaluated):
    data, predicted, probabilities = evaluated
    surest = surest_mistakes(data.y_test, probabilities)
    for figure, index in zip(section(page, "mistakes").all("figure"), surest, strict=True):
        label, read = data.y_test[index], predicted[index]
        shares = [f"{n}: {100 * probabilities[index, n]:.1f}\u00a0%" for n in (read, label)]
        assert figure.one("figcaption").text == f"{label} \u2192 {read}{shares[0]}{shares[1]}"
        assert np.array_equal(np.asarray(image_of(figure.one("img"))).reshape(-1), data.x_test[index])


def test_a_table_has_its_names_in_place_of_images(tmp_path):
    """Also one of 64 features, a square."""
    names, kinds = ["ash", *(f"acid {index}" for index in range(63))], ["red", "white"]
    values = np.random.default_rng(0).normal(size=(200, 64)) * np.arange(64, 0, -1)
    path = tmp_path / "wine.csv"
    pd.DataFrame(values, columns=names).assign(label=np.repeat(kinds, [140, 60])).to_csv(path, index=False)
    run = trained(tmp_path / "run", "--data", path, "--epochs", 0, "--test-split", 0.5)
    page, data = checked(write_report(run)), datasets.load(path, test_split=0.5)
    model, labels = xpnet.load(run, device="cpu"), np.array(kinds)[data.y_test]
    surest = surest_mistakes(data.y_test, model.predict_proba(data.x_test))
    lines = path.read_text().split("\n")
    rows = [[cell.text for cell in row.all()] for row in section(page, "mistakes").one("tbody").all("tr")]
    for (line, *texts), index in zip(rows, surest, strict=True):
        np.testing.assert_array_equal(np.float64(lines[int(line) - 1].split(",")[:-1]), data.x_test[index])
        assert texts[0] == labels[index] != texts[1]
    weights = np.sqrt(np.mean(model.network.layers[0]["weight"] ** 2, axis=0)) * data.x_test.std(axis=0)
    bars = [[span.text for span in bar.all("span")] for bar in section(page, "weights").all("li")]
    assert bars == [[names[i], f"{weights[i] / weights.max():.3f}"] for i in np.argsort(-weights)[:20]]


def test_the_embedded_network_is_the_trained_one(made, page, evaluated):
    value, x = json.loads(page.one("script", id="network").text), evaluated[0].x_test
    assert (value["side"], value["full"]) == (12, 255)

    def numbers(text, kind="<f8"):
        return np.frombuffer(base64.b64decode(text), kind).astype(float)

    values = (x - numbers(value["network"]["shift"])) * numbers(value["network"]["scale"])
    for layer in value["network"]["layers"]:
        bias = numbers(layer["bias"])
        logits = values @ numbers(layer["weight"], "<f4").reshape(len(bias), -1).T + bias
        values = np.where(logits > 0, logits, logits * 0.01)
    np.testing.assert_allclose(logits, xpnet.load(made, device="cpu").logits(x), 1e-4, 1e-5)


def test_the_name_and_every_text_of_the_record_and_the_model_are_escaped(run):
    name = f"{{{{ 7 * 7 }}}}{{% raw %}}{{#{EVIL.replace('/', '')}"
    run = run.rename(run.parent / name)
    names = (EVIL, "<!-- & \ud800", "b")
    path = run / "model.safetensors"
    path.write_bytes(encode_model(replace(load_model(path), columns=Columns(classes=names))))
    record, harmless = read_run(run), {element.name for element in parsed(write_report(run)).all()}
    config = {**dict.fromkeys(record["config"], EVIL), EVIL: EVIL, "hidden": []}
    evil = dict.fromkeys(("started", "ended", "device_used", "device_reason", "backend", "error"), EVIL)
    evil |= {"command": [EVIL], "versions": {EVIL: EVIL, "xpnet": EVIL}, "platform": "\u202egnp.\u2066exe"}
    change_record(run, config=config, **evil)
    path = write_report(run, data=datasets.load(Path(record["config"]["data"])))
    page, text = parsed(path), path.read_text()
    assert page.one("h1").text == name
    assert page.one("dl", class_="settings").text.count(EVIL) >= 30
    assert {element.name for element in page.all()} == harmless
    assert json.loads(page.one("script", id="network").text)["names"] == [*names]
    assert r"\u202egnp.\u2066exe" in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)  # which turn the direction of text


def test_points_are_selected_evenly_with_the_first_and_the_last():
    assert select_evenly(range(10), 4) == [0, 3, 6, 9]


def test_a_failed_run_that_has_a_model_has_a_report_without_the_losses_that_are_not_finite(run):
    change_record(run, status="failed", ended=None, metrics=None, fingerprint=None, error="loss")
    rows = [{"epoch": epoch, "train_loss": loss} for epoch, loss in enumerate((None, 0.25, None, 0.5))]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    page = checked(write_report(run))
    assert page.one("span", class_="unfinished").text.startswith("failed")
    dots = [dot.text for dot in section(page, "curves").all("circle")]
    assert dots == ["epoch 1, train 0.25", "epoch 3, train 0.5"]


def test_data_that_have_moved_can_be_named(run, capsys):
    config = read_run(run)["config"]
    change_record(run, config={**config, "data": "moved.npz"})
    assert complaint(capsys, "report", run).startswith(f"{run}: name its data with --data: moved.npz: no ")
    printed(capsys, "report", run, "--data", config["data"])


def test_other_data_are_refused_in_one_line_and_nothing_changes(run, capsys):
    other, before = blobs(run.parent / "other.npz", seed=1), tree(run)
    message = complaint(capsys, "report", run, "--data", other)
    assert "name the data of the training with --data" in message
    assert tree(run) == before
