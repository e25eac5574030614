"""The interval of a metric: as wide as the metric varies from sample to sample, whatever the metric."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.recipes.measure.metric_interval import metric_interval
from tfgreen.reports.metric import share_interval


def interval_of(metric, predictions, targets):
    split = tg.Split(predictions, targets)
    value = metric.value({"y": predictions}, {"y": targets}, split).value
    return value, *metric_interval(metric, {"y": predictions}, {"y": targets}, value)


def test_the_mean_of_samples_has_the_interval_of_students_t():
    rng = np.random.default_rng(0)
    error = rng.normal(size=60)
    value, (low, high), how = interval_of(tg.Metric("mae"), error, np.zeros(60))
    half = 2.001 * np.abs(error).std(ddof=1) / np.sqrt(60)  # Student's t, 59 degrees of freedom
    assert (low, high) == pytest.approx((value - half, value + half), rel=1e-3)
    assert how == "interval of 95 % (jackknife over 60 groups of samples)"


def auc(scores, labels):
    ranks = np.argsort(np.argsort(scores[:, 0])) + 1
    positive = labels[:, 0] == 1
    count = positive.sum()
    return (ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(labels) - count))


def iou(scores, labels):
    return ((scores > 0.5) & (labels == 1)).sum() / ((scores > 0.5) | (labels == 1)).sum()


METRICS = {  # and the same in NumPy
    "rmse": (keras.metrics.RootMeanSquaredError, lambda p, t: np.sqrt(((p - t) ** 2).mean())),
    "r2": (lambda: keras.metrics.R2Score(name="r2"), lambda p, t: 1 - ((p - t) ** 2).sum() / t.var() / len(t)),
    "huber": (lambda: "huber", lambda p, t: np.where(abs(p - t) < 1, (p - t) ** 2 / 2, abs(p - t) - 0.5).mean()),
    "auc": (lambda: "auc", auc),
    "iou": (lambda: keras.metrics.BinaryIoU([1], threshold=0.5), iou),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_the_interval_is_as_wide_as_the_metric_varies_between_draws(name):
    make, reference = METRICS[name]

    def draw(seed):
        rng = np.random.default_rng(seed)
        score, noise = rng.normal(size=(2, 400, 1))
        return (1 / (1 + np.exp(-score)), score + noise > 0) if name in ("auc", "iou") else (score, score + noise)

    values = [reference(*draw(seed)) for seed in range(300)]
    predictions, targets = (array.astype("float32") for array in draw(0))
    value, (low, high), how = interval_of(tg.Metric(make()), predictions, targets)
    assert value == pytest.approx(values[0], abs=0.01) and "over 100 groups" in how
    assert high - low == pytest.approx(4 * np.std(values), rel=0.3)


def test_a_share_of_the_samples_has_the_interval_of_wilson():
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 4, 300))  # sorted data is cut at random
    scores = np.eye(4)[np.where(rng.random(300) < 0.9, labels, 0)]
    for metric in ("accuracy", "sparse_categorical_accuracy", keras.metrics.SparseTopKCategoricalAccuracy(1)):
        value, ends, how = interval_of(tg.Metric(metric), scores, labels)
        assert ends == pytest.approx(share_interval(value, 300)) and "Wilson" in how


def test_pixels_of_an_image_are_no_samples_of_their_own():
    rng = np.random.default_rng(0)
    right = rng.random((50, 6, 6)) < np.where(rng.random(50) < 0.5, 0.9, 0.1)[:, None, None]
    scores, labels = np.eye(2)[right.astype(int)], np.ones(right.shape, int)
    value, (low, high), how = interval_of(tg.Metric("accuracy"), scores, labels)
    assert value == pytest.approx(right.mean()) and "jackknife" in how
    assert high - low == pytest.approx(4.02 * right.mean(axis=(1, 2)).std(ddof=1) / np.sqrt(50), rel=0.01)


def test_several_outputs_are_judged_together():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, {"a": keras.layers.Dense(1)(inputs), "b": keras.layers.Dense(1)(inputs)})
    model.compile("sgd", {"a": "mse", "b": "mae"}, loss_weights={"a": 2.0, "b": 0.5})
    rng = np.random.default_rng(0)
    predictions = {name: rng.normal(size=(50, 1)) for name in "ab"}
    targets = {name: np.zeros((50, 1)) for name in "ab"}
    each = 2 * predictions["a"][:, 0] ** 2 + 0.5 * np.abs(predictions["b"][:, 0])
    (low, high), _ = metric_interval(tg.Metric.of(model, "loss"), predictions, targets, each.mean())
    assert (high - low) / 2 == pytest.approx(2.01 * each.std(ddof=1) / np.sqrt(50), rel=1e-2)


def test_without_an_interval_there_is_a_reason():
    few, many = np.ones(19), np.ones(30)
    assert interval_of(tg.Metric("mae"), few, few)[1:] == (None, "no interval of 19 samples, 20 are needed")
    assert "give the same" in interval_of(tg.Metric("mae"), many, many)[2]

    class Largest(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="largest_error")
            self.largest = self.add_weight(name="largest", initializer="zeros")

        def update_state(self, y, outputs, sample_weight=None):
            self.largest.assign(keras.ops.maximum(self.largest, keras.ops.max(keras.ops.abs(y - outputs))))

        def result(self):
            return self.largest

    error = np.random.default_rng(0).normal(size=30)
    assert "no sum over samples" in interval_of(tg.Metric(Largest()), error, many)[2]
