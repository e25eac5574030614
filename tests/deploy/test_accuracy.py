from __future__ import annotations

import numpy as np
import pytest

from tfgreen.deploy.accuracy import top1_accuracy
from tfgreen.errors import InvalidValueError

SCORES = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3]])


@pytest.mark.parametrize(
    "labels", [[1, 0, 2, 1], [[1], [0], [2], [1]], np.eye(3)[[1, 0, 2, 1]], np.array([1.0, 0.0, 2.0, 1.0])]
)
def test_integer_column_one_hot_and_whole_float_labels_score_alike(labels):
    assert top1_accuracy(SCORES, np.asarray(labels)) == 0.75


@pytest.mark.parametrize(
    "labels, message",
    [
        ([1, 0, 2], "y: expected a label for each of the 4 samples, received 3"),
        ([1, 0, 2, 3], r"expected labels from 0 to 2, received 0\.\.3"),
        ([1, 0, 2, -1], "received -1"),
        ([0.5, 0.1, 0.2, 0.3], "expected integer labels, or one-hot rows of 3 classes"),
        (np.zeros((4, 2)), r"received shape \(4, 2\)"),
    ],
)
def test_labels_that_cannot_be_scored_are_refused(labels, message):
    with pytest.raises(InvalidValueError, match=message):
        top1_accuracy(SCORES, np.asarray(labels))
