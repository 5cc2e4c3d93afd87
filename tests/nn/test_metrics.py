"""Metrics of classes, against counts made by hand."""

import numpy as np

from xpnet.nn.metrics import MAX_CONFUSION_CLASSES, ClassMetrics, class_metrics, confusion_matrix

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
