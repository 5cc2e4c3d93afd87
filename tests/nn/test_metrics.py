"""Metrics of classes, against counts made by hand."""

import numpy as np
import pytest

from xpnet.nn.metrics import ClassMetrics, area_under_curve, class_metrics, confusion_matrix, mean_metric

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 3, 1])
NOTHING = np.array([], np.int64)


def test_the_confusion_matrix_counts_predictions_along_the_rows_of_the_labels():
    matrix = [[2, 1, 0, 0], [0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert confusion_matrix(PREDICTED, LABELS, 4).tolist() == matrix


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


def test_means_over_classes_are_of_those_that_have_the_metric():
    classes = class_metrics(PREDICTED, LABELS, 5)
    assert mean_metric(classes, "recall") == pytest.approx((2 / 3 + 1 / 2) / 3)


@pytest.mark.parametrize("scores", [[0.1, 0.4, 0.35, 0.8], [0.5, 0.5, 0.5, 0.7], [1.0, 0.0, 0.0, 1.0]])
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order_ties_a_half(scores):
    pairs = [np.sign(b - a) / 2 + 0.5 for a in scores[:2] for b in scores[2:]]
    assert area_under_curve(np.array(scores), np.array([0, 0, 1, 1])) == sum(pairs) / 4
