"""Figures about predictions, against counts made by hand."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.nn.metrics import (
    MAX_CONFUSION_CLASSES,
    ClassMetrics,
    accuracy_per_class,
    class_metrics,
    confusion_matrix,
)

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 3, 1])


def test_the_confusion_matrix_counts_predictions_along_the_rows_of_the_labels():
    assert confusion_matrix(PREDICTED, LABELS, 4).tolist() == [
        [2, 1, 0, 0],
        [0, 1, 0, 1],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_of_any_width_are_counted_without_overflow(dtype):
    labels = np.array([200], dtype)
    assert confusion_matrix(labels, labels, 201)[200, 200] == 1


def test_there_is_a_confusion_matrix_of_a_thousand_classes_and_no_more():
    labels = np.array([0, MAX_CONFUSION_CLASSES - 1])
    assert confusion_matrix(labels, labels, MAX_CONFUSION_CLASSES).trace() == 2
    assert confusion_matrix(labels, labels, MAX_CONFUSION_CLASSES + 1) is None


def test_without_samples_all_counts_are_zero():
    nothing = np.array([], np.int64)
    assert not confusion_matrix(nothing, nothing, 3).any()


def test_the_figures_of_each_class_follow_from_its_row_and_column():
    figures = class_metrics(PREDICTED, LABELS, 4)
    assert figures[0] == ClassMetrics(support=3, precision=1.0, recall=2 / 3, f1=4 / 5)
    assert figures[1] == ClassMetrics(support=2, precision=1 / 3, recall=1 / 2, f1=2 / 5)


def test_a_class_that_is_never_predicted_has_no_precision():
    figures = class_metrics(PREDICTED, LABELS, 4)
    assert figures[2] == ClassMetrics(support=1, precision=None, recall=0.0, f1=0.0)


def test_a_class_without_samples_has_no_recall():
    figures = class_metrics(PREDICTED, LABELS, 4)
    assert figures[3] == ClassMetrics(support=0, precision=0.0, recall=None, f1=0.0)


def test_a_class_without_samples_and_predictions_has_no_figures():
    assert class_metrics(np.array([0]), np.array([0]), 2)[1] == ClassMetrics(0, None, None, None)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_the_figures_agree_with_their_definitions(pairs):
    predicted, labels = np.array(pairs).T
    figures = class_metrics(predicted, labels, 4)
    assert sum(each.support for each in figures) == len(pairs)
    for label, each in enumerate(figures):
        hits = sum(pair == (label, label) for pair in pairs)
        if each.precision and each.recall:
            harmonic = 2 / (1 / each.precision + 1 / each.recall)
            assert each.f1 == pytest.approx(harmonic)
        if each.recall is not None:
            assert each.recall == hits / sum(pair[1] == label for pair in pairs)
        if each.precision is not None:
            assert each.precision == hits / sum(pair[0] == label for pair in pairs)


def test_the_accuracy_of_a_class_is_its_recall():
    assert accuracy_per_class(PREDICTED, LABELS, 4) == [2 / 3, 1 / 2, 0.0, None]


def test_the_figures_of_all_labels_there_can_be_take_little_memory():
    labels = np.array([0, 65535])
    tracemalloc.start()
    figures = class_metrics(labels, labels, 65536)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20
    assert [index for index, each in enumerate(figures) if each.support] == [0, 65535]
