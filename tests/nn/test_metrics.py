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
    assert confusion_matrix(NOTHING, NOTHING, MAX_CONFUSION_CLASSES + 1) is None


def test_a_metric_is_missing_where_there_are_no_samples_to_compute_it_from():
    assert class_metrics(PREDICTED, LABELS, 5) == [
        ClassMetrics(support=3, precision=1.0, recall=2 / 3, f1=4 / 5),
        ClassMetrics(support=2, precision=1 / 3, recall=1 / 2, f1=2 / 5),
        ClassMetrics(support=1, precision=None, recall=0.0, f1=0.0),
        ClassMetrics(support=0, precision=0.0, recall=None, f1=0.0),
        ClassMetrics(support=0, precision=None, recall=None, f1=None),
    ]
    assert mean_metric(class_metrics(NOTHING, NOTHING, 2), "f1") is None
    assert area_under_curve(np.ones(4), np.zeros(4, int)) is None


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order_ties_a_half():
    scores, labels = np.array([0.5, 0.3, 0.5, 0.7]), np.array([0, 0, 1, 1])
    assert area_under_curve(scores, labels) == 3.5 / 4


@pytest.mark.needs("sklearn")
@pytest.mark.parametrize("metric", ["recall", "f1", "area"])
def test_means_over_classes_and_the_area_are_those_of_scikit_learn(metric):
    from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 3, (2, 500)) % np.array([[3], [2]])
    if metric == "area":
        scores = generator.integers(0, 40, 500) / 40 + labels
        ours, theirs = area_under_curve(scores, (labels > 0).astype(int)), roc_auc_score(labels > 0, scores)
    else:
        ours = mean_metric(class_metrics(predicted, labels, 4), metric)
        theirs = {
            "recall": balanced_accuracy_score(labels, predicted),
            "f1": f1_score(labels, predicted, average="macro"),
        }[metric]
    assert ours == pytest.approx(theirs, rel=1e-15)
