from __future__ import annotations

import keras
import numpy as np
import pytest

from tfgreen.deploy.metrics import keras_metrics, top1_accuracy
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


RNG = np.random.default_rng(0)
PREDICTED, TARGETS = RNG.random((70, 3)).astype("float32"), RNG.integers(0, 3, 70)


def test_keras_metrics_are_those_of_numpy_whatever_the_form_of_the_labels():
    expected = (PREDICTED.argmax(axis=1) == TARGETS).mean()
    for y in (TARGETS, TARGETS[:, None], np.eye(3)[TARGETS]):
        assert keras_metrics(PREDICTED, y, ["accuracy"]) == {"accuracy": pytest.approx(expected, rel=1e-6)}
    found = keras_metrics(PREDICTED, np.eye(3)[TARGETS], ["mae", keras.metrics.MeanSquaredError(name="error")])
    difference = PREDICTED - np.eye(3)[TARGETS]
    assert found == {
        "mae": pytest.approx(np.abs(difference).mean(), rel=1e-5),
        "error": pytest.approx((difference**2).mean(), rel=1e-5),
    }


def test_a_metric_counts_all_samples_at_once_and_starts_anew():
    auc = keras.metrics.AUC()
    predicted, y = PREDICTED[:, :1], TARGETS[:, None] % 2
    by_hand = keras.metrics.AUC()
    by_hand.update_state(y, predicted)
    for _ in range(2):
        (value,) = keras_metrics(predicted, y, [auc]).values()
        assert value == pytest.approx(float(by_hand.result()), rel=1e-6)


def test_several_outputs_have_metrics_of_their_own():
    predicted = {"label": PREDICTED, "size": PREDICTED[:, 0]}
    found = keras_metrics(predicted, {"label": TARGETS, "size": np.zeros(70)}, {"label": ["accuracy"], "size": ["mae"]})
    assert set(found) == {"label_accuracy", "size_mae"}
    assert found["size_mae"] == pytest.approx(PREDICTED[:, 0].mean(), rel=1e-5)


@pytest.mark.parametrize(
    "y, metrics", [(TARGETS, ["acuracy"]), (TARGETS[:3], ["accuracy"]), (np.zeros((70, 2)), ["mse"]), (TARGETS, [3])]
)
def test_metrics_that_cannot_be_computed_are_refused_by_name(y, metrics):
    with pytest.raises(InvalidValueError, match=r"metrics \[.* cannot be computed: "):
        keras_metrics(PREDICTED, y, metrics)


@pytest.mark.parametrize("label", [5, -1, np.nan])
def test_labels_that_are_no_classes_are_refused_where_a_metric_looks_them_up(label):
    with pytest.raises(InvalidValueError, match=r"computed: Received a label value of -?\d+ which is outside"):
        keras_metrics(PREDICTED, np.full(70, label), ["sparse_categorical_crossentropy"])


def test_a_metric_object_is_new_each_time():
    metric, y = keras.metrics.MeanAbsoluteError(), np.zeros((4, 1))
    assert [keras_metrics(y + error, y, [metric]) for error in (3.0, 1.0)] == [
        {"mean_absolute_error": 3.0}, {"mean_absolute_error": 1.0}
    ]  # fmt: skip
