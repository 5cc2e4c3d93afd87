"""The report: what it says is what the run did, its texts are harmless, its errors are one line."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import complaint, printed
from jinja2 import UndefinedError
from report_pages import (
    Page,
    blobs,
    embedded_network,
    image_of,
    outside_addresses,
    parsed,
    rewrite,
    save_data,
    section,
    trained,
)
from saved_models import saved_model

from xpnet.__main__ import main
from xpnet.data import datasets
from xpnet.errors import ConfigError, DataError
from xpnet.inference.predictor import Predictor
from xpnet.nn import metrics
from xpnet.nn.metrics import class_metrics, confusion_matrix
from xpnet.report import write_report
from xpnet.report.charts import build_line_chart, choose_ticks, split_before_training
from xpnet.report.images import draw_ink_image, draw_weight_image
from xpnet.report.page import make_environment
from xpnet.report.settings import format_value
from xpnet.storage.model_file import save_model

SETTINGS = ("--epochs", 6, "--log-every", 1, "--batch-size", 50, "--lr", 0.05, "--validation", 60)
EVIL = "<script>alert(1)</script>&\"'<img src=x onerror=alert(1)>\u2028\u2029"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on images of 12 x 12 pixels in 3 classes, which nobody changes."""
    folder = tmp_path_factory.mktemp("report")
    return trained(folder / "made", "--data", blobs(folder / "blobs.npz"), *SETTINGS)


@pytest.fixture
def run(made, tmp_path):
    """A copy of that run, to change."""
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture(scope="module")
def page(made):
    return parsed(write_report(made, out=made.parent / "page.html"))


@pytest.fixture(scope="module")
def evaluated(made):
    """The data, and what the network makes of the test samples."""
    data = datasets.load(made.parent / "blobs.npz")
    predictor = Predictor.load(made, device="cpu", backend="numpy")
    return data, predictor.predict(data.x_test), predictor.probabilities(data.x_test)


def command(*words):
    return main(["report", *map(str, words)])


def written(folder, **options):
    return parsed(write_report(folder, **options))


def rendered(template, value):
    return make_environment().from_string(template).render(value=value)


def drawn(points):
    """The chart of one line."""
    chart = {"title": "chart", **build_line_chart({"train": points}, str)}
    return Page(make_environment().get_template("charts.html").module.line_chart(chart)).root


def cells(row):
    return [cell.text for cell in row.children]


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# The file


def test_the_command_writes_one_page_into_the_run_and_prints_where(run, capsys):
    before = files(run)
    assert printed(capsys, "report", run) == f"{run / 'report.html'}\n"
    after = files(run)
    page = after.pop("report.html")
    assert after == before
    assert page.startswith(b"<!doctype html>")


def test_without_a_run_it_is_the_newest_trained_one(made, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command() == 2
    assert capsys.readouterr().err.startswith("xpnet: no trained run in runs: xpnet train makes")
    shutil.copytree(made, "runs/first")
    (run / "report.html").unlink(missing_ok=True)
    run.rename("runs/second")
    rewrite(Path("runs/second/run.json"), started="2199-01-01T00:00:00+00:00")
    assert command() == 0
    out, err = capsys.readouterr()
    assert out == "runs/second/report.html\n"
    assert err == "xpnet: note: no RUN given: using the newest, runs/second\n"
    assert Path("runs/second/report.html").exists()


def test_out_names_another_file_and_replaces_it(run, tmp_path, capsys):
    (tmp_path / "there.html").write_text("old")
    assert command(run, "--out", tmp_path / "there.html") == 0
    assert not (run / "report.html").exists()
    assert "<h1>run</h1>" in (tmp_path / "there.html").read_text()


def test_the_page_needs_no_other_file_and_forbids_itself_to_load_one(made, page):
    text = (made.parent / "page.html").read_text()
    assert outside_addresses(text) == []
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy


def test_the_default_network_on_mnist_takes_at_most_300_kb(tmp_path):
    mnist = datasets.load()
    few = [getattr(mnist, name)[:2000] for name in ("x_train", "y_train", "x_test", "y_test")]
    run = trained(tmp_path / "run", "--data", save_data(tmp_path / "mnist.npz", *few))
    size = write_report(run).stat().st_size
    assert size <= 300_000


def test_the_same_run_gives_the_same_page(run):
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


# What it says


def test_the_summary_says_what_was_trained_where_and_on_what(made, page):
    record = json.loads((made / "run.json").read_text())
    text = page.one("header").text + section(page, "record").text
    assert page.one("h1").text == "made"
    assert page.one("head").one("title").text == "made · xpnet"
    for expected in (
        "completed",
        "blobs",
        "network 144-10-3",
        f"{100 * record['metrics']['test_accuracy']:.2f}\u00a0%",
        f"{record['metrics']['test_loss']:.4f}",
        f"{100 * record['metrics']['validation_accuracy']:.2f}\u00a0%",
        f"{144 * 10 + 10 + 10 * 3 + 3:,}",
        record["fingerprint"],
        record["data"]["sha256"],
        "300 training and 300 test samples, 144 features, 3 classes",
        "cpu, numpy",
        f"numpy {record['versions']['numpy']}",
        record["python"],
        record["platform"],
        "--lr 0.05",
        "learning_rate 0.05",
    ):
        assert expected in text, expected


def test_settings_that_are_not_the_defaults_stand_out(page):
    rows = list(page.one("dl", class_="settings").all("div"))
    changed = {row.one("dt").text for row in rows if row.attributes.get("class") == "changed"}
    assert changed == {"data", "epochs", "log_every", "batch_size", "learning_rate", "validation"}
    assert len(rows) > 30
    assert ("optimizer", "sgd") in {tuple(cells(row)) for row in rows}


def test_the_curves_have_every_point_of_training_and_validation(made, page):
    rows = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 7
    loss, accuracy = section(page, "curves").all("figure")
    for figure, kind, form in ((loss, "loss", "{:.3g}"), (accuracy, "accuracy", "{:.4g}")):
        factor, unit = (100, "\u00a0%") if kind == "accuracy" else (1, "")
        for name in ("train", "validation"):
            values = [form.format(factor * row[f"{name}_{kind}"]) + unit for row in rows]
            path = figure.one("path", class_=name).attributes["d"]
            assert path.count("L") == 5
            titles = [dot.text for dot in figure.all("circle", class_=name)]
            told = [f"epoch {epoch}, {name} {value}" for epoch, value in enumerate(values)]
            assert titles == told[1:]
            assert f"{name} {values[0]}" in figure.one("p").text
            assert f"{name} {values[-1]}" in figure.one("figcaption").text


def test_each_class_has_its_figures(page, evaluated):
    data, predicted, _ = evaluated
    confusion = confusion_matrix(predicted, data.y_test, 3)
    rows = list(section(page, "classes").one("tbody").all("tr"))
    assert len(rows) == 3
    for index, (row, scores) in enumerate(zip(rows, class_metrics(predicted, data.y_test, 3), strict=True)):
        shares = [scores.precision, scores.recall, scores.f1]
        misread = np.where(np.arange(3) == index, -1, confusion[index])
        assert cells(row) == [
            str(index),
            str(scores.support),
            *(f"{100 * share:.1f}\u00a0%" for share in shares),
            f"{misread.argmax()} ({misread.max()})",
        ]


def test_the_figures_are_those_of_the_evaluate_command(made, page, capsys):
    evaluation = json.loads(printed(capsys, "evaluate", made, "--json", "--device", "cpu"))
    assert f"{100 * evaluation['accuracy']:.2f}\u00a0%" in page.one("header").text
    rows = section(page, "classes").one("tbody").all("tr")
    for row, scores in zip(rows, evaluation["classes"], strict=True):
        shares = [f"{100 * scores[name]:.1f}\u00a0%" for name in ("precision", "recall", "f1")]
        assert cells(row)[:5] == [str(scores["class"]), str(scores["support"]), *shares]


def test_the_confusion_matrix_has_a_count_in_each_cell_that_has_one(page, evaluated):
    data, predicted, _ = evaluated
    confusion = confusion_matrix(predicted, data.y_test, 3)
    totals = confusion.sum(axis=1)
    told = [cell.one("title").text for cell in page.one(id="confusion").all("g", class_="cell")]
    assert told == [
        f"{i} read as {j}: {confusion[i, j]} of {totals[i]} ({100 * confusion[i, j] / totals[i]:.1f} %)"
        for i in range(3)
        for j in range(3)
        if confusion[i, j]
    ]


def test_the_mistakes_are_those_of_which_the_network_is_surest(page, evaluated):
    data, predicted, probabilities = evaluated
    wrong = np.flatnonzero(predicted != data.y_test)
    surest = sorted(wrong, key=lambda index: -probabilities[index].max())[:20]
    images = list(section(page, "mistakes").all("figure"))
    assert len(images) == len(surest) == 20
    for figure, index in zip(images, surest, strict=True):
        label, read = data.y_test[index], predicted[index]
        shares = [f"{n}: {100 * probabilities[index, n]:.1f}\u00a0%" for n in (read, label)]
        assert figure.one("figcaption").text == f"{label} \u2192 {read}{shares[0]}{shares[1]}"
        pixels = np.asarray(image_of(figure.one("img")))
        assert np.array_equal(pixels.reshape(-1), data.x_test[index])


def test_the_first_layers_weights_are_images(made, page):
    weight = Predictor.load(made).model.layers[0]["weight"]
    images = list(section(page, "weights").all("img"))
    assert len(images) == 10
    for row, image in zip(weight, images, strict=True):
        red, _, blue, alpha = np.asarray(image_of(image).convert("RGBA")).reshape(-1, 4).T
        strong = np.abs(row) > 0.02 * np.abs(row).max()
        assert np.array_equal((blue > red)[strong], (row > 0)[strong])
        assert np.abs(alpha / 255 - np.abs(row) / np.abs(row).max()).max() < 0.01


def test_without_a_mistake_the_page_says_so(tmp_path):
    x, y = np.repeat(np.eye(2, 64, dtype=np.uint8) * 255, 10, axis=0), np.repeat([0, 1], 10)
    data = save_data(tmp_path / "easy.npz", x, y, x, y)
    run = trained(tmp_path / "easy", "--data", data, "--hidden", "--lr", 5, "--epochs", 20)
    page = written(run)
    assert "every test sample is read right" in section(page, "mistakes").text
    assert "Every test sample is read right" in section(page, "classes").text


# The network in the page


def forward(network, raw):
    """The logits of raw rows, as the page's script computes them."""
    values = (raw - network["shift"]) * network["scale"]
    activations = {
        "relu": lambda z: np.maximum(z, 0),
        "leaky-relu": lambda z: np.where(z > 0, z, z * network["leak"]),
        "tanh": np.tanh,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    }
    for index, layer in enumerate(network["layers"]):
        values = values @ layer["weight"].T + layer["bias"]
        if index < len(network["layers"]) - 1:
            values = activations[network["activation"]](values)
    return values


NETWORKS = [
    ("--hidden",),
    ("--hidden", 8, "--activation", "relu"),
    ("--hidden", 12, 9, 7, "--activation", "leaky-relu", "--arithmetic", "native"),
    ("--hidden", 9, 8, "--activation", "tanh", "--batch-norm", "--batch-size", 50),
    ("--hidden", 9, "--activation", "sigmoid", "--normalize", "standardize"),
    ("--hidden", 6, "--normalize", "none", "--lr", 1e-5, "--arithmetic", "native"),
]


@pytest.mark.parametrize("flags", NETWORKS, ids=lambda flags: " ".join(map(str, flags)))
@pytest.mark.parametrize("dtype", [np.uint8, np.float64], ids=["pixels", "floats"])
def test_the_embedded_network_is_the_trained_one(tmp_path, flags, dtype):
    data = blobs(tmp_path / "blobs.npz", dtype=dtype)
    run = trained(tmp_path / "run", "--data", data, "--epochs", 3, *flags)
    network = embedded_network(written(run))["network"]
    x = datasets.load(data).x_test
    expected = Predictor.load(run, device="cpu", backend="numpy").logits(x)
    result = forward(network, x.astype(np.float64))
    assert np.abs(result - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("dtype", "scale", "full"), [(np.uint8, 1, 255), (np.float32, 1 / 16, None)])
def test_full_ink_is_the_largest_value_of_floats_and_255_of_pixels(tmp_path, dtype, scale, full):
    data = blobs(tmp_path / "blobs.npz", features=64, dtype=dtype)
    arrays = dict(np.load(data))
    arrays["x_test"] = (arrays["x_test"] * scale).astype(dtype)
    np.savez(data, **arrays)
    run = trained(tmp_path / "run", "--data", data, "--epochs", 0)
    value = embedded_network(written(run))
    assert value["side"] == 8
    assert value["full"] == (full or arrays["x_test"].max())


def test_features_that_are_no_square_image_turn_images_and_drawing_off(tmp_path):
    run = trained(tmp_path / "run", "--data", blobs(tmp_path / "blobs.npz", features=20), "--epochs", 1)
    page = written(run)
    why = "20 features are no square image of at least 8 × 8 pixels"
    for identifier in ("draw", "mistakes", "weights"):
        assert why in section(page, identifier).text
        assert not list(section(page, identifier).all("img"))
    assert not list(page.all(id="network"))
    assert not list(page.all("canvas"))
    assert len(list(section(page, "mistakes").all("figure"))) == 20


def test_a_large_network_turns_drawing_off(tmp_path):
    data = blobs(tmp_path / "blobs.npz", features=784, samples=20)
    run = trained(tmp_path / "run", "--data", data, "--epochs", 0, "--hidden", 640)
    page = written(run)
    assert "the network's weights take 2.0 MB, and a page holds up to 2 MB" in (section(page, "draw").text)
    assert not list(page.all(id="network"))
    assert "The first 40 of 640." in section(page, "weights").text
    assert (run / "report.html").stat().st_size < 300_000


def test_features_below_0_turn_drawing_off(tmp_path):
    data = blobs(tmp_path / "blobs.npz", features=64, dtype=np.float64)
    arrays = dict(np.load(data))
    np.savez(data, **{**arrays, "x_test": arrays["x_test"] - 100})
    run = trained(tmp_path / "run", "--data", data, "--epochs", 0)
    page = written(run)
    assert "some are below 0" in section(page, "draw").text
    assert len(list(section(page, "mistakes").all("img"))) == 20


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        (70, "With 70 classes, there is no room for the confusion matrix."),
        (120, "The 100 of 120 classes that are told worst."),
        (130, "With 130 classes, this part is left out."),
    ],
)
def test_with_many_classes_the_page_stays_small(tmp_path, monkeypatch, classes, text):
    monkeypatch.setattr(metrics, "MAX_CONFUSION_CLASSES", 125)
    data = blobs(tmp_path / "blobs.npz", features=64, classes=classes, samples=260)
    run = trained(tmp_path / "run", "--data", data, "--epochs", 0)
    page = written(run)
    assert text in section(page, "classes").text
    assert f"the network tells {classes} classes" in section(page, "draw").text
    assert (run / "report.html").stat().st_size < 300_000


def test_a_single_class_is_told(tmp_path):
    x, y = np.zeros((5, 64), np.uint8), np.zeros(5, int)
    run = trained(tmp_path / "run", "--data", save_data(tmp_path / "one.npz", x, y, x, y), "--epochs", 1)
    rows = list(section(written(run), "classes").one("tbody").all("tr"))
    hundred = "100.0\u00a0%"
    assert [cells(row) for row in rows] == [["0", "5", hundred, hundred, hundred, "\u2013"]]


# Texts


@pytest.mark.parametrize("name", ["<script>alert(1)<img src=x onerror=alert(1)>", "{{ 7 * 7 }}{% raw %}{#"])
def test_a_run_named_like_markup_is_harmless(run, name):
    named = run.rename(run.parent / name)
    page = written(named)
    assert page.one("h1").text == named.name
    assert page.one("head").one("title").text == f"{named.name} · xpnet"
    assert len(list(page.all("script"))) == 2  # the network and the page's own
    assert not [image for image in page.all("img") if "onerror" in image.attributes]


def test_every_text_of_the_record_is_escaped(run):
    path = run / "run.json"
    plain = [{element.name for element in written(run).all()}, len(list(written(run).all()))]
    record = json.loads(path.read_text())
    texts = ("started", "ended", "device_requested", "device_used", "device_reason")
    rewrite(
        path,
        **dict.fromkeys((*texts, "backend", "python", "platform", "error"), EVIL),
        command=[EVIL, EVIL],
        config={**dict.fromkeys(record["config"], EVIL), EVIL: EVIL, "hidden": []},
        versions={EVIL: EVIL, "xpnet": EVIL},
        git={"commit": EVIL, "dirty": True},
        data={**record["data"], "name": EVIL},
    )
    data = datasets.load(Path(record["config"]["data"]))
    page = written(run, data=data)
    text = (run / "report.html").read_text()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert page.one("dl", class_="settings").text.count(EVIL) >= 30
    assert page.one("header").text.count("<script>alert(1)</script>") == 1
    # Beside the rows that the values add, the elements are those of the harmless page.
    assert {element.name for element in page.all()} == plain[0]
    assert len(list(page.all("script"))) == 2


@pytest.mark.parametrize("text", ["</script><b>", "<!--", "]]>", "a & b", "\u2028\u2029", "\ud800"])
def test_json_in_a_script_ends_nothing_and_reads_back(text):
    content = rendered("{{ value | tojson }}", {"text": text})
    assert not set(content) & set("<>&\u2028\u2029")
    assert json.loads(content) == {"text": text}


def test_json_in_a_script_holds_only_what_every_browser_reads():
    with pytest.raises(ValueError, match="not JSON compliant"):
        rendered("{{ value | tojson }}", math.nan)


def test_templates_escape_text_and_attributes():
    text = rendered('<p title="{{ value }}">{{ value }}</p>', """1 < 2 & "'</p>""")
    escaped = "1 &lt; 2 &amp; &#34;&#39;&lt;/p&gt;"
    assert text == f'<p title="{escaped}">{escaped}</p>'


def test_a_missing_variable_of_a_template_is_an_error():
    with pytest.raises(UndefinedError):
        rendered("{{ value.absent }}", {})


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_no_text_is_shown_as_far_as_it_is(run):
    named = run.rename(Path(os.fsdecode(os.fsencode(run.parent) + b"/caf\xe9")))
    assert written(named).one("h1").text == "caf?"


def test_long_and_many_values_are_cut():
    assert format_value("x" * 1000) == "x" * 300 + "…"
    assert format_value([1, 2.5, "a"]) == "1 2.5 a"
    assert [format_value(value) for value in (None, [], True, False, 0)] == ["none", "none", "yes", "no", "0"]


# Charts and images


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.93, 0.95, False, [0.93, 0.935, 0.94, 0.945, 0.95]),
        (0, 25, True, [0, 5, 10, 15, 20, 25]),
        (0, 3, True, [0, 1, 2, 3]),
        (0, 1, True, [0, 1]),
        (0, 1000, True, [0, 200, 400, 600, 800, 1000]),
        (2, 2, False, [2]),
        (0, 5e-324, False, [0]),
        (-1e308, 1e308, False, [-1e308]),
    ],
)
def test_ticks_are_round_numbers(low, high, whole, expected):
    assert choose_ticks(low, high, whole=whole) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("high", [1e-290, 1e-9, 3.3, 7e11, 1e300])
def test_there_are_two_to_seven_ticks_whatever_the_range(high):
    for low in (0.0, high / 3, -high):
        result = choose_ticks(low, high)
        assert 2 <= len(result) <= 7
        assert all(low - 1e-9 * high <= tick <= high * (1 + 1e-9) for tick in result)


def test_a_long_line_is_thinned_and_keeps_its_ends():
    points = [(float(epoch), 1 / (1 + epoch)) for epoch in range(1, 10_001)]
    path = drawn(points).one("path", class_="train").attributes["d"]
    assert path.count("L") == 399
    assert path.startswith("M52.0 12.0L")
    assert path.endswith("L428.0 216.0")


def test_a_curve_of_one_point_is_drawn_in_the_middle():
    dot = drawn([(0.0, 0.5)]).one("circle")
    assert (dot.attributes["cx"], dot.attributes["cy"], dot.text) == ("240.0", "114.0", "epoch 0, train 0.5")


@pytest.mark.parametrize(
    ("epochs", "before", "rest"),
    [([0, 1, 2], [0], [1, 2]), ([0, 1], [], [0, 1]), ([0], [], [0]), ([1, 2], [], [1, 2])],
)
def test_what_is_before_the_first_epoch_would_dwarf_the_rest(epochs, before, rest):
    points = [(epoch, 9.0 - epoch) for epoch in epochs]
    assert [[epoch for epoch, _ in part] for part in split_before_training(points)] == [before, rest]


def test_large_images_are_reduced():
    address = draw_ink_image(np.full(200 * 200, 128, np.uint8), 255.0)
    assert address.startswith("data:image/png")
    assert len(address) < 500
    weights = np.linspace(-1, 1, 128 * 128)
    assert len(draw_weight_image(weights)) < 8000


# Runs that are not complete, and data elsewhere


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_has_a_model_has_a_report(run, status):
    rewrite(run / "run.json", status=status, ended=None, metrics=None, fingerprint=None)
    page = written(run)
    assert page.one("span", class_="unfinished").text.startswith(status)
    assert "test accuracy" in page.one("header").text
    assert "not ended" in section(page, "record").text


def test_a_run_without_rows_says_so(run):
    (run / "metrics.jsonl").unlink()
    assert "The run noted no epoch." in section(written(run), "curves").text


def test_figures_that_are_not_finite_are_left_out(run):
    rows = [
        {"epoch": 0, "train_loss": None, "train_accuracy": 0.1},
        {"epoch": 1, "train_loss": float("inf"), "train_accuracy": 0.5},
        {"epoch": 2, "train_loss": 10**400, "train_accuracy": None},
        {"epoch": 3, "train_loss": 0.5, "train_accuracy": 0.75},
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loss, accuracy = section(written(run), "curves").all("figure")
    assert loss.one("circle").text == "epoch 3, train 0.5"
    assert accuracy.one("p").text == "epoch (before the first: train 10\u00a0%)"
    assert [dot.text[:7] for dot in accuracy.all("circle")] == ["epoch 1", "epoch 3"]


def test_data_given_are_not_read_again(run, evaluated, monkeypatch):
    data, *_ = evaluated

    def refuse(*_arguments):
        raise AssertionError

    for name in ("load", "digest"):
        monkeypatch.setattr(datasets, name, refuse)
    sha256 = json.loads((run / "run.json").read_text())["data"]["sha256"]
    assert "300 test samples" in section(written(run, data=data, sha256=sha256), "record").text


def test_data_that_have_moved_can_be_named(run, tmp_path, capsys):
    moved = tmp_path / "moved.npz"
    data = Path(json.loads((run / "run.json").read_text())["config"]["data"])
    shutil.copy(data, moved)
    config = json.loads((run / "run.json").read_text())["config"]
    rewrite(run / "run.json", config={**config, "data": str(tmp_path / "gone.npz")})
    error = complaint(capsys, "report", run)
    assert f"{run}: name its data with --data: {tmp_path / 'gone.npz'}: no such file" in error
    assert command(run, "--data", moved) == 0


def test_csv_data_take_both_files(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        rows = np.c_[np.arange(20) % 2, rng.integers(0, 256, (20, 9))]
        np.savetxt(tmp_path / f"{name}.csv", rows, fmt="%d", delimiter=",")
    words = ["--data", tmp_path / "train.csv", "--test-data", tmp_path / "test.csv"]
    run = trained(tmp_path / "run", *words, "--epochs", 1)
    assert command(run) == 0
    assert command(run, *words) == 0


def test_other_data_are_refused(run, tmp_path, capsys):
    error = complaint(capsys, "report", run, "--data", blobs(tmp_path / "other.npz", seed=1))
    assert "was trained on blobs with SHA-256 " in error
    assert "name the data of the training with --data" in error
    assert not (run / "report.html").exists()


# Bad input


def no_record(run):
    (run / "run.json").unlink()


def no_model(run):
    (run / "model.safetensors").unlink()


def truncated_model(run):
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def other_model(run):
    layer = {"weight": np.ones((3, 144)), "bias": np.zeros(3)}
    save_model(run / "model.safetensors", saved_model([layer]))


def misfit_model(run):
    layer = {"weight": np.ones((3, 20)), "bias": np.zeros(3)}
    save_model(run / "model.safetensors", saved_model([layer]))
    rewrite(run / "run.json", fingerprint=None)


def fewer_classes(run):
    layer = {"weight": np.ones((2, 144)), "bias": np.zeros(2)}
    save_model(run / "model.safetensors", saved_model([layer]))
    rewrite(run / "run.json", fingerprint=None)


def infinite_outputs(run):
    layers = [
        {"weight": np.full((size[1], size[0]), 1e200), "bias": np.zeros(size[1])}
        for size in ((144, 4), (4, 3))
    ]
    save_model(run / "model.safetensors", saved_model(layers))
    config = json.loads((run / "run.json").read_text())["config"]
    rewrite(run / "run.json", fingerprint=None, config={**config, "arithmetic": "native"})


def damage(name, text):
    def damaged(run):
        (run / name).write_text(text)

    return damaged


def changed(**changes):
    def rewritten(run):
        rewrite(run / "run.json", **changes)

    return rewritten


DEEP = "[" * 900 + "]" * 900
DAMAGES = {
    "no folder": (shutil.rmtree, "run.json: cannot be read (No such file or directory): expected"),
    "no record": (no_record, "run.json: cannot be read (No such file or directory): expected a"),
    "torn record": (damage("run.json", '{"schema_version": 1, "id'), "run.json: not a run record"),
    "list": (damage("run.json", "[1]"), "run.json: not a run record: expected a JSON object"),
    "schema": (changed(schema_version=2), "run.json: schema_version: expected 1, got 2"),
    "empty": (damage("run.json", '{"schema_version": 1}'), "run.json: status: expected one of"),
    "config": (changed(config=[]), "run.json: config: expected an object of plain values, got []"),
    "nested": (changed(config={"a": {"b": 1}}), "run.json: config: expected an object of plain"),
    "deep": (changed(config=json.loads(DEEP)), "run.json: not a run record: expected a JSON ob"),
    "data": (changed(data={"name": "x"}), "run.json: data.sha256: expected a string, got null"),
    "command": (changed(command="xpnet train"), "run.json: command: expected a list of strings"),
    "metrics": (changed(metrics=[1]), "run.json: metrics: expected an object or null, got [1]"),
    "figure": (
        changed(metrics={"test_loss": "<b>"}),
        'run.json: metrics.test_loss: expected a number, a list of numbers or null, got "<b>"',
    ),
    "row": (damage("metrics.jsonl", "{}\nnonsense\n"), "metrics.jsonl: line 2: expected a JSON"),
    "value": (
        damage("metrics.jsonl", '{"epoch": 1, "train_loss": "low"}\n'),
        'metrics.jsonl: line 1: train_loss: expected a number or null, got "low"',
    ),
    "epoch": (
        damage("metrics.jsonl", '{"epoch": true}\n'),
        "metrics.jsonl: line 1: epoch: expected a number or null, got true",
    ),
    "no model": (no_model, "holds no model.safetensors: expected the folder of a run that has end"),
    "truncated model": (truncated_model, "model.safetensors: "),
    "other model": (other_model, "model.safetensors: is not the model of which run.json tells"),
    "misfit": (misfit_model, "blobs: has 144 features a sample, the network takes 20"),
    "classes": (fewer_classes, "blobs, row 3: label 2: the network tells 2 classes, 0 to 1"),
    "overflow": (infinite_outputs, "blobs: the network's outputs are not all finite: "),
}


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_a_damaged_run_is_one_line_and_changes_nothing(run, capsys, name):
    spoil, message = DAMAGES[name]
    spoil(run)
    before = files(run) if run.exists() else None
    assert message in complaint(capsys, "report", run)
    assert (files(run) if run.exists() else None) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--nonsense"), "unrecognized arguments: --nonsense (xpnet report --help)"),
        (("run", "--test-data", "x.csv"), "--test-data x.csv: goes with --data TRAIN.csv"),
        (("run", "--data", "absent.npz"), "absent.npz: no such file or folder; --data takes "),
    ],
)
def test_a_wrong_command_line_is_one_line(capsys, words, message):
    assert complaint(capsys, "report", *words).startswith(message)


def test_a_page_that_cannot_be_written_is_one_line(run, capsys):
    path = run / "none" / "page.html"
    error = complaint(capsys, "report", run, "--out", path)
    assert error.startswith(f"{path}: cannot be written (No such file or directory)")


def test_a_failure_to_write_leaves_the_old_page(run, monkeypatch):
    (run / "report.html").write_text("old")

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_report(run)
    assert (run / "report.html").read_text() == "old"
    assert not list(run.glob(".*.tmp"))


def test_the_function_raises_what_the_command_prints(tmp_path):
    with pytest.raises(DataError, match=r"run\.json: cannot be read"):
        write_report(tmp_path / "none")


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        command("--help")
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "usage: xpnet report" in out
    for flag in ("--out", "--data", "--test-data", "--debug"):
        assert flag in out


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "import xpnet.report, xpnet.cli.runs.command",
            {"numpy", "pandas", "PIL", "jinja2", "torch", "jax", "safetensors"},
        ),
        (
            "import sys; from xpnet.__main__ import main; assert main(['report', sys.argv[1]]) == 0",
            {"pandas", "torch", "jax", "cupy", "matplotlib", "sklearn", "rich"},
        ),
    ],
)
def test_it_loads_no_more_than_it_needs(made, tmp_path, code, absent):
    run = shutil.copytree(made, tmp_path / "light")
    code += "\nimport sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code, str(run)], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not absent & set(loaded)
