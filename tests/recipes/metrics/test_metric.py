from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.errors import TfgreenError
from tfgreen.recipes.metrics.metric import evaluate_metrics

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")


def two_outputs():
    x = keras.Input((3,))
    model = keras.Model(x, [keras.layers.Dense(2, name="label")(x), keras.layers.Dense(1, name="size")(x)])
    losses = {"label": keras.losses.SparseCategoricalCrossentropy(from_logits=True), "size": "huber"}
    metrics = {"label": ["accuracy"], "size": ["mae", keras.metrics.R2Score(name="r2")]}
    model.compile("sgd", losses, metrics=metrics, loss_weights={"label": 1.0, "size": 0.5})
    return model


@pytest.mark.slow
@pytest.mark.parametrize("form", ["arrays", "dataset"])
def test_the_values_of_the_model_are_those_of_keras_and_those_of_the_file_are_near(form):
    y = {"label": RNG.integers(0, 2, 40), "size": RNG.normal(size=(40, 1)).astype("float32")}
    split = tg.Split(X, y, name="validation")
    if form == "dataset":
        split = tg.Split(tf.data.Dataset.from_tensor_slices((X, y)).batch(16), name="validation")
    model = two_outputs()
    keras_values = model.evaluate(X, y, verbose=0, return_dict=True, batch_size=40)
    metrics = [tg.Metric.of(model, name) for name in keras_values]
    lite = tg.convert(model)
    for found in (evaluate_metrics(model, split, metrics), evaluate_metrics(lite, split, metrics)):
        for name, value in keras_values.items():
            assert found[name].value == pytest.approx(value, rel=1e-4)
            assert (found[name].split, found[name].samples) == ("validation", 40)
    assert {metric.name: metric.direction for metric in metrics} == {
        name: "higher" if "accuracy" in name or "r2" in name else "lower" for name in keras_values
    }
    of_size = tg.Metric("mae", output="size").evaluate(lite, split)
    assert of_size.value == pytest.approx(keras_values["size_mae"], rel=1e-4) and of_size.to_dict()["samples"] == 40
    with pytest.raises(TfgreenError, match=r"Metric mae names no output of \['label', 'size'\]"):
        tg.Metric("mae").evaluate(lite, split)
    with pytest.raises(TfgreenError, match="output of metric sise_mae: expected 'label' or 'size'"):
        tg.Metric("mae", output="sise").evaluate(model, split)


def test_segmentation_and_a_loss_of_ones_own():
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    x, y = RNG.normal(size=(6, 4, 4, 1)).astype("float32"), RNG.integers(0, 2, (6, 4, 4))
    split, lite = tg.Split(x, y, name="test"), tg.convert(model)
    logits = np.asarray(model(x))
    predicted = logits.argmax(-1)
    overlap = [((predicted == k) & (y == k)).sum() / ((predicted == k) | (y == k)).sum() for k in (0, 1)]
    metric = tg.Metric(keras.metrics.MeanIoU(2, sparse_y_pred=False))
    for each in (model, lite, lite):
        assert metric.evaluate(each, split).value == pytest.approx(np.mean(overlap), rel=1e-5)

    def surprise(y_true, y_pred):
        return keras.ops.mean(y_pred, axis=(1, 2, 3))

    own = tg.Metric(surprise, direction="higher")
    assert own.name == "surprise" and own.evaluate(lite, split).value == pytest.approx(logits.mean(), rel=1e-4)


def test_better_and_drop_follow_the_direction():
    accuracy, error = tg.Metric("accuracy"), tg.Metric("mse")
    assert accuracy.is_better(0.9, than=0.8) and not accuracy.is_better(0.8, than=0.8)
    assert error.is_better(0.8, than=0.9) and error.drop(0.1, 0.3) == pytest.approx(0.2)
    assert str(accuracy) == "<Metric accuracy, higher is better>"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: tg.Metric("mae", direction="up"), "direction: expected 'higher', 'lower' or None, received 'up'"),
        (lambda: tg.Metric("acuracy"), "Did you mean 'accuracy'"),
        (lambda: tg.Metric.of(two_outputs(), "size_mea"), "metric: expected one of .* Did you mean 'size_mae'"),
        (lambda: tg.Metric("mae").evaluate(3, tg.Split(X, X)), "model: expected a Keras model or a tg.LiteRTModel"),
        (lambda: tg.Metric("mae").evaluate(two_outputs(), X), "split: expected a tg.Split"),
        (lambda: tg.Metric("mae").evaluate(two_outputs(), tg.Split(X)), "has no targets"),
        (lambda: tg.Metric("mae").evaluate(two_outputs(), tg.Split(X, X)), "y_train: expected a list of 2"),
    ],
)
def test_what_cannot_be_measured_is_named(make, message):
    with pytest.raises(TfgreenError, match=message):
        make()


def test_a_share_beyond_1_is_refused():
    def accuracy(y, outputs):
        return 100 * keras.ops.ones_like(outputs)

    metric, split = tg.Metric(accuracy), tg.Split(np.ones((4, 1)), np.ones((4, 1)))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(TfgreenError, match="metric accuracy: expected a share from 0 to 1, received 100"):
        metric.evaluate(model, split)
    assert tg.Metric(accuracy, name="score", direction="higher").is_share  # the function tells
