"""Metrics of classes, against counts made by hand."""

import numpy as np
import pytest

from xpnet.nn.metrics import (
    MAX_CONFUSION_CLASSES,
    ClassMetrics,
    area_under_curve,
    class_metrics,
    confusion_matrix,
    mean_metric,
)

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 3, 1])
NOTHING = np.array([], np.int64)


def test_the_confusion_matrix_counts_predictions_along_the_rows_of_the_labels():
    matrix = [[2, 1, 0, 0], [0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert confusion_matrix(PREDICTED, LABELS, 4).tolist() == matrix
    assert confusion_matrix(NOTHING, NOTHING, 3).tolist() == [[0] * 3] * 3
    assert confusion_matrix(NOTHING, NOTHING, MAX_CONFUSION_CLASSES + 1) is None


def test_a_metric_is_missing_where_there_are_no_samples_to_compute_it_from():
    assert class_metrics(PREDICTED, LABELS, 5) == [
        ClassMetrics(support=3, precision=1.0, recall=2 / 3, f1=4 / 5),
        ClassMetrics(support=2, precision=1 / 3, recall=1 / 2, f1=2 / 5),
        ClassMetrics(support=1, precision=None, recall=0.0, f1=0.0),
        ClassMetrics(support=0, precision=0.0, recall=None, f1=0.0),
        ClassMetrics(support=0, precision=None, recall=None, f1=None),
    ]


@pytest.mark.parametrize(
    "scores", [[0.1, 0.4, 0.35, 0.8], [0.5, 0.5, 0.5, 0.7], [1.0, 0.0, 0.0, 1.0], [0.25] * 4]
)
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order_ties_a_half(scores):
    labels = np.array([0, 0, 1, 1])
    pairs = [np.sign(b - a) / 2 + 0.5 for a in scores[:2] for b in scores[2:]]
    assert area_under_curve(np.array(scores), labels) == sum(pairs) / 4
    assert area_under_curve(np.array(scores), 0 * labels) is None


@pytest.mark.needs("sklearn")
def test_means_over_classes_and_the_area_are_those_of_scikit_learn():
    from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 3, (2, 500)) % np.array([[3], [2]])
    classes = class_metrics(predicted, labels, 4)
    assert mean_metric(classes, "recall") == pytest.approx(balanced_accuracy_score(labels, predicted), 1e-15)
    assert mean_metric(classes, "f1") == pytest.approx(f1_score(labels, predicted, average="macro"), 1e-15)
    scores = generator.integers(0, 40, 500) / 40 + labels
    expected = roc_auc_score(labels > 0, scores)
    assert area_under_curve(scores, (labels > 0).astype(int)) == pytest.approx(expected, 1e-15)
    assert mean_metric(class_metrics(NOTHING, NOTHING, 2), "f1") is None
