"""The report: what it says is what the run did, its texts are harmless, its errors are one line."""

import base64
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checked_pages import checked
from commands import complaint, printed
from report_pages import Page, blobs, image_of, parsed, rewrite, save_data, section, trained
from saved_models import saved_model

import xpnet
from xpnet.data import datasets
from xpnet.inference.predictor import Evaluation
from xpnet.nn import metrics
from xpnet.nn.columns import Columns
from xpnet.nn.metrics import class_metrics, confusion_matrix
from xpnet.report import images, write_report
from xpnet.report.charts import build_line_chart, choose_ticks, select_evenly
from xpnet.report.page import make_environment, summarize_classes
from xpnet.storage.model_file import load_model, save_model
from xpnet.storage.record import read_metrics

SETTINGS = ["--epochs", 6, "--batch-size", 50, "--validation", 60, "--hidden", 9, 8, "--batch-norm"]
SETTINGS += ["--activation", "leaky-relu"]
EVIL = "<script>alert(1)</script>&\"'<img src=x onerror=alert(1)>\u2028\u2029"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on images of 12 x 12 pixels in 3 classes, which nobody changes."""
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


def initialised(folder, data, *flags):
    return trained(folder / "run", "--data", data, "--epochs", 0, *flags)


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def record_of(run):
    return json.loads((run / "run.json").read_text())


def test_the_command_writes_one_page_that_needs_no_other_file_and_prints_where(run, capsys):
    before = files(run)
    assert printed(capsys, "report", run) == f"{run / 'report.html'}\n"
    after = files(run)
    page = after.pop("report.html")
    assert after == before
    assert page.startswith(b"<!doctype html>")
    addresses = re.findall(r"""(?:src|href|action|url)\s*[=(]\s*["']?([^"')\s>]+)""", page.decode())
    assert [address for address in addresses if not address.startswith(("data:", "#"))] == []
    (policy,) = Page(page.decode()).root.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"].startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy.attributes["content"]
    (run.parent / "there.html").write_text("old")
    printed(capsys, "report", run, "--out", run.parent / "there.html")
    assert (run.parent / "there.html").read_bytes() == page  # the same run gives the same page


def test_the_summary_says_what_was_trained_where_and_on_what(made, page):
    record = record_of(made)
    metrics, text = record["metrics"], page.one("header").text + section(page, "record").text
    assert page.one("h1").text == "made"
    assert page.one("head").one("title").text == "made · xpnet"
    parameters = 144 * 9 + 9 + 9 * 8 + 8 + 8 * 3 + 3 + 2 * (9 + 8)
    expected = [
        *("completed", "network 144-9-8-3", record["fingerprint"], record["data"]["sha256"]),
        *(f"{100 * metrics[f'{part}_accuracy']:.2f}\u00a0%" for part in ("test", "validation")),
        *(f"{metrics['test_loss']:.4f}", f"{parameters:,}", "--activation leaky-relu"),
        "300 training and 300 test samples, 144 features, 3 classes",
        *("cpu, numpy", f"numpy {record['versions']['numpy']}", record["platform"]),
    ]
    assert [words for words in expected if words not in text] == []
    changed = {row.one("dt").text for row in page.all("div", class_="changed")}
    assert changed == {"data", "epochs", "batch_size", "validation", "hidden", "activation", "batch_norm"}
    assert "optimizersgd" in page.one("dl", class_="settings").text


def test_each_line_has_the_epochs_with_its_values_and_the_best_is_marked(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(recorded)
    run = Path("runs/mine")
    best, rows = record_of(run)["metrics"]["best_epoch"], read_metrics(run / "metrics.jsonl")
    figures = section(checked(write_report(run, out=tmp_path / "page.html")), "curves").all("figure")
    kinds = ("loss", "{:.3g}", 1), ("accuracy", "{:.4g}\u00a0%", 100)
    for figure, (kind, form, factor) in zip(figures, kinds, strict=True):
        for name in ("train", "validation"):
            key = f"{name}_{kind}"
            values = [(row["epoch"], form.format(factor * row[key])) for row in rows if key in row]
            assert figure.one("path", class_=name).attributes["d"].count("L") == len(values) - 2
            dots = [*figure.all("circle", class_=name)]
            assert [dot.text for dot in dots] == [
                f"epoch {epoch}, {name} {text}" for epoch, text in values[1:]
            ]
            assert f"{name} {values[0][1]}" in figure.one("p").text
            assert f"{name} {values[-1][1]}" in figure.one("figcaption").text
        place = dots[best - 1].attributes["cx"]  # the validation has every epoch
        assert figure.one("path", class_="mark").attributes["d"].startswith(f"M{place} ")
        assert figure.one("p").text.endswith(f"; best: {best}")


def test_each_class_has_its_metrics_and_the_confusion_matrix_a_count_in_each_cell(page, evaluated):
    data, predicted, _ = evaluated
    confusion = confusion_matrix(predicted, data.y_test, 3)
    rows = list(section(page, "classes").one("tbody").all("tr"))
    for index, (row, scores) in enumerate(zip(rows, class_metrics(predicted, data.y_test, 3), strict=True)):
        shares = [f"{100 * share:.1f}\u00a0%" for share in (scores.precision, scores.recall, scores.f1)]
        misread = np.where(np.arange(3) == index, -1, confusion[index])
        most = f"{misread.argmax()} ({misread.max()})"
        assert [cell.text for cell in row.all()] == [str(index), str(scores.support), *shares, most]
    wrong = confusion - np.diag(np.diag(confusion))
    label, read = np.unravel_index(wrong.argmax(), wrong.shape)
    lead = section(page, "classes").one("p", class_="lead").text.replace("\u00a0", " ")
    most = f"{label} predicted as {read} ({wrong.max()} times)"
    assert lead.startswith(f"Most frequent mistakes on the test data: {most}")
    totals = confusion.sum(axis=1)
    assert [cell.one("title").text for cell in page.one(id="confusion").all("g", class_="cell")] == [
        f"{i} predicted as {j}: {confusion[i, j]} of {totals[i]} ({100 * confusion[i, j] / totals[i]:.1f} %)"
        for i, j in np.argwhere(confusion)
    ]


def surest_mistakes(labels, probabilities):
    """The indices of the 20 mistakes of which the network is surest."""
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


def test_the_first_layers_weights_are_images(made, page):
    weights = xpnet.load(made).network.layers[0]["weight"]
    for row, image in zip(weights, section(page, "weights").all("img"), strict=True):
        red, _, blue, alpha = np.asarray(image_of(image).convert("RGBA")).reshape(-1, 4).T
        shares = row / np.abs(row).max()
        strong = np.abs(shares) > 0.02
        assert np.array_equal((blue > red)[strong], (row > 0)[strong])
        assert np.abs(alpha / 255 - np.abs(shares)).max() < 0.01


def test_without_a_mistake_the_page_says_so(tmp_path):
    x, y = np.repeat(np.eye(2, 64, dtype=np.uint8) * 255, 10, axis=0), np.repeat([0, 1], 10)
    data = save_data(tmp_path / "easy.npz", x, y, x, y)
    run = trained(tmp_path / "easy", "--data", data, "--hidden", "--lr", 5, "--epochs", 20)
    page = checked(write_report(run))
    assert "every test sample is classified correctly" in section(page, "mistakes").text
    assert "Every test sample is classified correctly" in section(page, "classes").text


SECTIONS = ["draw", "curves", "classes", "mistakes", "weights", "record"]
MANY = {"features": 64, "samples": 260}
PARTS = [
    ({"classes": 10}, "", 20 + 10, {"draw": "Draw a digit", "classes": "Point at a cell for its share.\n"}),
    ({"features": 784}, "--hidden 64", 20 + 40, {"draw": None, "weights": "The first 40 of 64."}),
    ({"dtype": float, "least": -9}, "", 20 + 10, {"draw": None}),
    ({"features": 20}, "", 0, {"draw": None, "weights": "How much the features weigh"}),
    (MANY | {"classes": 26}, "", 20 + 10, {"draw": None, "classes": "Point at a cell for its count.\n\n"}),
    (MANY | {"classes": 27}, "", 20 + 10, {"draw": None, "classes": "Only the 20 of 27 classes with the m"}),
    (MANY | {"classes": 120}, "", 20 + 10, {"draw": None, "classes": "The 100 of 120 classes with the lo"}),
]


@pytest.mark.parametrize(("data", "flags", "pictures", "texts"), PARTS)
def test_the_page_has_the_sections_that_fit_the_data(tmp_path, monkeypatch, data, flags, pictures, texts):
    monkeypatch.setattr(metrics, "MAX_CONFUSION_CLASSES", 100)
    monkeypatch.setattr(images, "WEIGHT_LIMIT", 100_000)
    path = write_report(initialised(tmp_path, blobs(tmp_path / "blobs.npz", **data), *flags.split()))
    page = checked(path)
    absent = [identifier for identifier, text in texts.items() if text is None]
    sections = [each.attributes["id"] for each in page.all("section")]
    assert sections == [identifier for identifier in SECTIONS if identifier not in absent]
    for identifier in texts.keys() - set(absent):
        assert texts[identifier] in section(page, identifier).text
    assert len(list(page.all(id="network"))) == ("draw" not in absent)
    assert len(list(page.all("img"))) == pictures
    assert path.stat().st_size < 300_000


def test_a_table_has_its_names_in_place_of_images(tmp_path):
    """Also one of 64 features, a square; two lines before the first row are blank."""
    names, kinds = ["<b>ash</b>", *(f"acid {index}" for index in range(63))], ["red", "white"]
    values = np.random.default_rng(0).normal(size=(200, 64)) * np.arange(64, 0, -1)
    table = pd.DataFrame(values, columns=names).assign(label=np.repeat(kinds, 100))
    path = tmp_path / "wine.csv"
    path.write_text(table.to_csv(index=False).replace("\n", "\n\n", 3))
    run = initialised(tmp_path, path, "--test-split", 0.5)
    page, data = checked(write_report(run)), datasets.load(path, test_split=0.5)
    assert [each.attributes["id"] for each in page.all("section")] == SECTIONS[1:]
    assert not list(page.all("img"))
    model = xpnet.load(run, device="cpu")
    probabilities = model.predict_proba(data.x_test)
    surest = surest_mistakes(data.y_test, probabilities)
    rows = [[cell.text for cell in row.all()] for row in section(page, "mistakes").one("tbody").all("tr")]
    lines = path.read_text().split("\n")
    cells = [lines[int(number) - 1].split(",")[:-1] for number, *_ in rows]
    np.testing.assert_array_equal(np.array(cells, float), data.x_test[surest])
    assert "They are named by their lines in wine.csv." in section(page, "mistakes").text
    for (_, *texts), index in zip(rows, surest, strict=True):
        label, read = data.y_test[index], probabilities[index].argmax()
        shares = [f"{100 * probabilities[index, each]:.1f}\u00a0%" for each in (label, read)]
        assert texts == [kinds[label], kinds[read], *shares]
    weights = np.sqrt(np.mean(model.network.layers[0]["weight"] ** 2, axis=0)) * data.x_test.std(axis=0)
    bars = [[span.text for span in bar.all("span")] for bar in section(page, "weights").all("li")]
    assert bars == [[names[i], f"{weights[i] / weights.max():.3f}"] for i in np.argsort(-weights)[:20]]
    assert "<b>ash</b>" in dict(bars)
    assert "The 20 of 64 features that weigh most." in section(page, "weights").text


def test_a_large_confusion_matrix_shows_the_classes_with_the_most_mistakes(tmp_path):
    """Of 70 classes, only those from 50 on are confused: 21 of them, and class 69 the least."""
    labels = np.repeat(np.arange(70), 4)
    predicted = labels.copy()
    predicted[200::4] = np.roll(np.arange(50, 70), 1)
    predicted[4] = 69
    evaluation = Evaluation(0, 0, "", 0, None, class_metrics(predicted, labels, 70), predicted, predicted)
    classes = summarize_classes(labels, evaluation, [f"class {index}" for index in range(70)])
    assert classes["shown"] == [f"class {index}" for index in range(50, 70)]
    cells = [cell[:4] for cell in classes["cells"]]
    assert cells == sorted([(i, i, 3, 4) for i in range(20)] + [(i, (i - 1) % 20, 1, 4) for i in range(20)])


def test_the_embedded_network_is_the_trained_one(made, page, evaluated):
    value, x = json.loads(page.one("script", id="network").text), evaluated[0].x_test
    network = value["network"]
    assert (value["side"], value["full"]) == (12, 255)

    def numbers(text, kind="<f8"):
        return np.frombuffer(base64.b64decode(text), kind).astype(float)

    values = (x - numbers(network["shift"])) * numbers(network["scale"])
    for layer in network["layers"]:
        bias = numbers(layer["bias"])
        logits = values @ numbers(layer["weight"], "<f4").reshape(len(bias), -1).T + bias
        values = np.where(logits > 0, logits, logits * network["leak"])
    expected = xpnet.load(made, device="cpu").logits(x)
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_name_and_every_text_of_the_record_and_the_model_are_escaped(run):
    name = f"{{{{ 7 * 7 }}}}{{% raw %}}{{#{EVIL.replace('/', '')}"
    if sys.platform == "linux":  # other systems refuse names that are not UTF-8
        name += os.fsdecode(b"caf\xe9")
    run = run.rename(run.parent / name)
    names = (EVIL, "<!-- & \ud800", "b")
    path = run / "model.safetensors"
    save_model(path, replace(load_model(path), columns=Columns(classes=names)))
    record, harmless = record_of(run), {element.name for element in parsed(write_report(run)).all()}
    texts = ("started", "ended", "device_requested", "device_used", "device_reason")
    rewrite(
        run / "run.json",
        **dict.fromkeys((*texts, "backend", "python", "platform", "error"), EVIL),
        command=[EVIL, EVIL],
        config={**dict.fromkeys(record["config"], EVIL), EVIL: EVIL, "hidden": []},
        versions={EVIL: EVIL, "xpnet": EVIL},
        working_folder_commit={"commit": EVIL, "dirty": True},
        xpnet_commit={"commit": EVIL, "dirty": True},
        data={**record["data"], "name": EVIL},
    )
    page = parsed(write_report(run, data=datasets.load(Path(record["config"]["data"]))))
    assert not re.search("<script>alert|<img src=x", (run / "report.html").read_text())
    assert page.one("h1").text == name.encode("utf-8", "replace").decode()
    assert f"Commit of xpnet{EVIL}, with changes" in section(page, "record").text
    assert page.one("dl", class_="settings").text.count(EVIL) >= 30
    assert {element.name for element in page.all()} == harmless
    assert json.loads(page.one("script", id="network").text)["names"] == [*names]
    assert len(list(page.all("script"))) == 2  # the network and the page's own


TICKS = [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    (0.93, 0.95, [0.93, 0.935, 0.94, 0.945, 0.95]),
    (0, 5e-324, [0]),
    (-1e308, 1e308, [-1e308]),
]


def test_ticks_are_round_numbers():
    for low, high, ticks in TICKS:
        assert choose_ticks(low, high) == pytest.approx(ticks, abs=1e-12)
    assert choose_ticks(0, 3, whole=True) == [0, 1, 2, 3]


def test_points_are_selected_evenly_with_the_first_and_the_last():
    assert select_evenly(range(10), 4) == [0, 3, 6, 9]
    assert [*select_evenly(range(4), 4)] == [0, 1, 2, 3]


def test_a_long_line_is_thinned_and_keeps_its_ends_and_a_single_point_is_in_the_middle():
    def draw(points):
        chart = build_line_chart("chart", {"train": points}, str)
        return Page(make_environment().get_template("charts.html").module.line_chart(chart)).root

    line = draw([(float(epoch), 1 / (1 + epoch)) for epoch in range(1, 10_001)])
    path = line.one("path", class_="train").attributes["d"]
    assert path.count("L") == 399
    assert path.startswith("M52.0 12.0L")
    assert path.endswith("L428.0 216.0")
    dot = draw([(0.0, 0.5)]).one("circle").attributes
    assert (dot["cx"], dot["cy"]) == ("240.0", "114.0")


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_has_a_model_has_a_report(run, status):
    rewrite(run / "run.json", status=status, ended=None, metrics=None, fingerprint=None, error="loss")
    if status == "running":
        (run / "metrics.jsonl").unlink()
    page = checked(write_report(run))
    assert page.one("span", class_="unfinished").text.startswith(status)
    assert "test accuracy" in page.one("header").text
    assert "not ended" in section(page, "record").text
    assert ("The run noted no epoch." in section(page, "curves").text) == (status == "running")


def test_metrics_that_were_not_finite_are_left_out(run):
    rows = [
        {"epoch": 0, "train_loss": None, "train_accuracy": 0.1},
        {"epoch": 1, "train_loss": None, "train_accuracy": 0.5},
        {"epoch": 2, "train_loss": None, "train_accuracy": None},
        {"epoch": 3, "train_loss": 0.5, "train_accuracy": 0.75},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loss, accuracy = section(parsed(write_report(run)), "curves").all("figure")
    assert loss.one("circle").text == "epoch 3, train 0.5"
    assert accuracy.one("p").text == "epoch (before the first: train 10\u00a0%)"
    assert [dot.text[:7] for dot in accuracy.all("circle")] == ["epoch 1", "epoch 3"]


def test_data_that_have_moved_can_be_named_and_csv_data_by_both_files(run, tmp_path, capsys):
    config = record_of(run)["config"]
    moved, gone = shutil.copy(config["data"], tmp_path / "moved.npz"), tmp_path / "gone.npz"
    rewrite(run / "run.json", config={**config, "data": str(gone)})
    error = complaint(capsys, "report", run)
    assert f"{run}: name its data with --data: {gone}: no such file" in error
    printed(capsys, "report", run, "--data", moved)
    csv = tmp_path / "data.csv"
    np.savetxt(csv, np.c_[np.arange(20) % 2, np.arange(180).reshape(20, 9)], fmt="%d", delimiter=",")
    words = ["--data", csv, "--test-data", csv]
    printed(capsys, "report", trained(tmp_path / "csv", *words, "--epochs", 1), *words)


def model_of(*sizes, fill=1.0, **changes):
    def replace_model(run):
        layers = [{"weight": np.full((m, n), fill), "bias": np.zeros(m)} for n, m in pairwise(sizes)]
        save_model(run / "model.safetensors", saved_model(layers))
        rewrite(run / "run.json", config={**record_of(run)["config"], "arithmetic": "native"}, **changes)

    return replace_model


UNNAMED = {"status": "running", "fingerprint": None}
WRONG = [
    ((), lambda run: (run / "metrics.jsonl").write_text("{}\nx\n"), "metrics.jsonl: line 2: expected a JSON"),
    ((), lambda run: (run / "model.safetensors").unlink(), "model.safetensors: no such file"),
    ((), model_of(144, 3), "its model has the fingerprint "),
    ((), model_of(20, 3, **UNNAMED), "blobs: the network takes rows of 20 features, got an array"),
    ((), model_of(144, 2, **UNNAMED), "blobs, row 3: label 2: the network tells 2 classes"),
    ((), model_of(144, 4, 3, fill=1e200, **UNNAMED), "the network's outputs are not all finite"),
    (("--test-data", "x.csv"), None, "--test-data x.csv: goes with --data TRAIN.csv"),
    (("--data", "absent.npz"), None, "absent.npz: no such file or folder; --data takes "),
    (("--data", "other.npz"), None, "name the data of the training with --data"),
    (("--out", "none/page.html"), None, "none/page.html: cannot be written (No such file or directory)"),
]


@pytest.mark.parametrize(("words", "damage", "message"), WRONG, ids=[message for *_, message in WRONG])
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_bad_input_is_one_line_and_changes_nothing(
    run, tmp_path, capsys, monkeypatch, words, damage, message
):
    monkeypatch.chdir(tmp_path)
    blobs(Path("other.npz"), seed=1)
    if damage is not None:
        damage(run)
    before = files(run)
    assert message in complaint(capsys, "report", run, *words)
    assert files(run) == before
