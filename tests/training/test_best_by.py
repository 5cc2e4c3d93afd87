"""By what an epoch is the best: the score, what is chosen by it, and where it is shown."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import complaint, printed
from folders import change_record
from recorded_runs import seal, train_and_press

import xpnet
from xpnet import train
from xpnet.compute.evaluation import SampleEvaluation
from xpnet.errors import XPNetError
from xpnet.storage.record import read_run
from xpnet.training.callbacks import EarlyStopping
from xpnet.training.loop import EpochLog

DRAW = np.random.default_rng(0)
Y = (DRAW.random(500) < 0.08).astype(np.int32)
Y[:400:57] = 2  # of which there are no validation samples
X = DRAW.normal(size=(500, 4)) + 1.2 * Y[:, None] * np.array([1.0, -1.0, 1.0, 0.0])
HELD = X[400:], Y[400:]
WEIGHTS = DRAW.random(400)
SMALL = {"hidden": (5,), "batch_size": 32, "learning_rate": 0.05, "device": "cpu", "normalize": "none"}
WORDS = "--data rare.npz --hidden 5 --batch-size 32 --lr 0.05 --normalize none --validation 100".split()  # noqa: SIM905 - as typed
OUTPUT = ["--quiet", "--no-report"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("rare.npz", x_train=X[:400], y_train=Y[:400], x_test=X[400:], y_test=Y[400:])


def fitted(**settings):
    return xpnet.fit(X[:400], Y[:400], **SMALL, **settings)


def share(right, weights):
    return math.fsum(weights[right]) / math.fsum(weights)


def by_class(labels, weights):
    """Weights divided by their sums over the class, added one after the other."""
    sums = [0.0] * 3
    for label, weight in zip(labels, weights, strict=True):
        sums[label] += weight
    return np.array([weight / sums[label] for label, weight in zip(labels, weights, strict=True)])


ONES, MAPPING = np.ones(100), {0: 0.5, 1: 4.0, 2: 3.0}
OF_MAPPING = np.array([0.5 / 4, 4.0 / 4, 3.0 / 4])
SCORES = {
    "auto without weights": ({}, lambda right, y: None),
    "accuracy": ({"best_by": "accuracy", "class_weight": "balanced"}, lambda right, y: None),
    "balanced": ({"class_weight": "balanced"}, lambda right, y: share(right, by_class(y, ONES))),
    "samples": ({"sample_weight": WEIGHTS}, lambda right, y: share(right, ONES)),  # of others alone
    "mapping": ({"class_weight": MAPPING}, lambda right, y: share(right, OF_MAPPING[y])),
    "both": (
        {"class_weight": MAPPING, "sample_weight": WEIGHTS},
        lambda right, y: share(right, OF_MAPPING[y]),
    ),
    "weighted without weights": ({"best_by": "weighted-accuracy"}, lambda right, y: share(right, ONES)),
    "recalls": (
        {"best_by": "balanced-accuracy", "sample_weight": WEIGHTS},
        lambda right, y: (right[y == 0].mean() + right[y == 1].mean()) / 2,
    ),
}


@pytest.mark.parametrize(("settings", "expected"), SCORES.values(), ids=SCORES)
def test_the_score_is_that_of_the_validation_samples_and_their_weights(settings, expected):
    model = fitted(**settings, epochs=7, validation_data=HELD)
    right, row = model.predict(X[400:]) == Y[400:], model.history[-1]
    assert {"accuracy": row["validation_accuracy"], "score": row.get("validation_score")} == {
        "accuracy": right.mean(),
        "score": expected(right, Y[400:]),
    }


def test_held_out_samples_have_their_own_weights_and_of_the_loss_the_lowest_is_the_best(folder):
    model = fitted(sample_weight=WEIGHTS, class_weight="balanced", epochs=5, validation=100, run="runs/held")
    _, held = xpnet.arithmetic.random.split(0, 400, 100)
    right, labels, weights = model.predict(X[held]) == Y[held], Y[held], WEIGHTS[held] / WEIGHTS.max()
    assert model.history[-1]["validation_score"] == share(right, by_class(labels, weights))
    assert xpnet.verify("runs/held", X[:400], Y[:400], sample_weight=WEIGHTS)
    rows = fitted(best_by="loss", epochs=5, validation=100, log_every=1).history
    assert [row["validation_score"] for row in rows] == [-row["validation_loss"] for row in rows]


@pytest.mark.parametrize(
    ("epochs", "best"),
    [
        ([(0.5, 0.9), (0.7, 0.8), (0.6, 0.1)], 1),
        ([(0.5, 0.9), (0.7, 0.8), (0.7, 0.7)], 2),
        ([(0.7, 0.8), (0.7, 0.8), (0.6, 0.8)], 0),
        ([(-3.0, 3.0), (-2.0, 2.0), (-2.5, 2.5)], 1),
    ],
)
def test_the_best_epoch_has_the_highest_score_then_the_lowest_loss_then_is_the_first(epochs, best):
    final, variables = EarlyStopping(9), SimpleNamespace(parameters=(), statistics=())
    for epoch, (score, loss) in enumerate(epochs):
        state = SimpleNamespace(variables=variables, epoch=epoch)
        final.on_epoch_end(EpochLog(state, validation=SampleEvaluation(loss, 0.5, None, score)))
    assert final.best == (best, *epochs[best])


def recall(model):
    predicted = model.predict(X[400:])
    return np.mean([(predicted[Y[400:] == label] == label).mean() for label in range(2)])


IMBALANCED = {"class_weight": "balanced", "patience": 8, "epochs": 60, "seed": 8}
NOTE = "best epoch 0: none had a better validation accuracy than the initial network: another learning rate"


def test_with_weights_the_trained_network_is_returned_not_the_initial_one():
    with pytest.warns(UserWarning, match=NOTE):
        initial = fitted(**IMBALANCED, validation_data=HELD, best_by="accuracy")
    trained = fitted(**IMBALANCED, validation_data=HELD)
    assert initial.best_epoch == 0
    assert recall(initial) < 0.5
    assert trained.best_epoch > 0
    assert recall(trained) > 0.8


@pytest.mark.needs("sklearn")
def test_the_classifier_takes_it_and_warns():
    from xpnet.estimator import XPNetClassifier

    settings = {**SMALL, "class_weight": {0: 1.0, 1: 9.0}, "patience": 3, "epochs": 9, "validation": 100}
    best = [XPNetClassifier(**settings, best_by=best_by).fit(X, Y).model_ for best_by in ("auto", "loss")]
    scores = [[(row["validation_score"], -row["validation_loss"]) for row in model.history] for model in best]
    assert [model.best_epoch for model in best] == [each.index(max(each)) for each in scores]
    settings |= {"learning_rate": 5e-324}
    with pytest.warns(UserWarning, match="best epoch 0: none had a better weighted validation accuracy tha"):
        XPNetClassifier(**settings).fit(X, Y)


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("torch", marks=pytest.mark.needs("torch")),
        pytest.param("jax", marks=[pytest.mark.slow, pytest.mark.needs("jax")]),
        "array-api-strict",
    ],
)
def test_every_library_has_the_same_score(backend):
    settings = {"sample_weight": WEIGHTS, "validation": 112, "epochs": 2, "log_every": 1}  # whole batches
    assert fitted(**settings, backend=backend).history == fitted(**settings, backend="numpy").history


def test_validation_samples_of_weight_0_alone_are_refused():
    settings = {"class_weight": {0: 0, 1: 0, 2: 1}, "validation_data": HELD, "epochs": 1}
    with pytest.raises(
        XPNetError, match=r"^validation_data: all its samples have weight zero: give classes "
    ):
        fitted(**settings)
    assert "validation_score" not in fitted(**settings, best_by="accuracy").history[0]


def recorded(name, *words):
    assert train.main([*WORDS, *OUTPUT, "--name", name, *words]) == 0
    return read_run(Path("runs", name))


def test_the_command_prints_records_and_verifies_what_is_best_by_what(folder, capsys):
    words = [*WORDS, "--no-report", "--patience", "4", "--epochs", "30", "--seed", "8"]
    out = printed(capsys, "train", *words, "--class-weight", "balanced", "--name", "weighted")
    record = read_run(Path("runs/weighted"))
    rows = [json.loads(line) for line in Path("runs/weighted/metrics.jsonl").read_text().splitlines()]
    scores, best = [row["validation_score"] for row in rows], record["metrics"]["best_epoch"]
    assert (record["config"]["best_by"], record["metrics"]["validation_score"]) == (
        "weighted-accuracy",
        max(scores),
    )
    assert (best, scores[best]) == (scores.index(max(scores)), max(scores))
    assert f"\nbest epoch {best}, by weighted validation accuracy {max(scores):.4f}\n" in out
    assert f"validation {rows[2]['validation_accuracy']:.4f}   score {scores[2]:.4f}\n" in out
    assert "the same bits" in printed(capsys, "verify", "runs/weighted")
    shown = printed(capsys, "runs", "show", "weighted")
    assert f"validation_score        {max(scores):.4f}" in shown
    printed(capsys, "report", "runs/weighted", "--out", "page.html")
    page = Path("page.html").read_text()
    assert "<h3>Score</h3>" in page
    assert f"<dt>validation score</dt><dd>{max(scores):.4f}</dd>" in page
    assert "best_by weighted-accuracy" in page
    change_record(Path("runs/weighted"), config={**record["config"], "best_by": "balanced-accuracy"})
    seal(Path("runs/weighted"))
    assert not xpnet.verify("runs/weighted")
    out = printed(capsys, "train", *words, "--lr", "5e-324", "--name", "initial")
    assert "\nbest epoch 0, by validation accuracy 0." in out
    assert f"\nnote: {NOTE}" in out
    assert recorded("plain", "--epochs", "1")["config"]["best_by"] == "accuracy"


def test_a_resumed_run_keeps_it_and_an_extension_by_another_begins_anew(folder, capsys):
    words = ["--class-weight", "balanced", "--patience", "50", "--epochs", "6"]
    whole = recorded("whole", *words)
    train_and_press([*WORDS, *words, "--name", "stopped"], 3, 2)
    line = complaint(capsys, "train", "--resume", "runs/stopped", "--best-by", "loss")
    assert line.startswith("--best-by: runs/stopped was started with 'weighted-accuracy', got 'loss'")
    assert train.main(["--resume", "runs/stopped", "--best-by", "auto", *OUTPUT[:1]]) == 0
    resumed = read_run(Path("runs/stopped"))
    assert (resumed["fingerprint"], resumed["config"]["best_by"]) == (
        whole["fingerprint"],
        "weighted-accuracy",
    )
    extend = ["train", "--extend", "runs/whole", "--epochs", "2", "--no-report"]
    note = "note: --best-by: the best epoch begins anew: the parent's is by weighted validation accuracy\n"
    for name, best_by in (("same", []), ("other", ["--best-by", "loss"])):
        out = printed(capsys, *extend, "--name", name, *best_by)
        assert (note in out) == (name == "other")
        record = read_run(Path("runs", name))
        assert record["config"]["best_by"] == (best_by or ["", "weighted-accuracy"])[1]
        assert (record["metrics"]["best_epoch"] >= 6) or name == "same"
        assert "the same bits" in printed(capsys, "verify", f"runs/{name}")


def test_of_several_learning_rates_the_best_is_that_of_the_highest_score(folder, capsys):
    words = "--class-weight balanced --lr 5e-324 0.5 --epochs 8 --seed 8 --no-report --name rates".split()  # noqa: SIM905
    out = printed(capsys, "train", *WORDS, *words)
    summary = json.loads(Path("runs/rates/summary.json").read_text())
    metrics = [trial["metrics"] for trial in summary["trials"]]
    accuracies, scores = ([row[f"validation_{kind}"] for row in metrics] for kind in ("accuracy", "score"))
    assert accuracies[0] > accuracies[1]
    assert scores[0] < scores[1]
    assert summary["best"]["run"] == "lr-0.5"
    assert f"lr-0.5: weighted validation accuracy {scores[1]:.4f}, test " in out
