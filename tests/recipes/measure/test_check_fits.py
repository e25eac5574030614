"""check_fits: data of any task, checked against a model before it is trained."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tests import zoo
from tfgreen.errors import TfgreenError
from tfgreen.recipes.measure.check_fits import check_fits

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
LABELS = np.arange(40) % 3


def classifier(classes=3, loss="sparse_categorical_crossentropy"):
    model = keras.Sequential([keras.Input((4,), name="point"), keras.layers.Dense(classes)], name="net")
    if loss:
        model.compile("sgd", loss)
    return model


def two_inputs():
    image, size = keras.Input((4, 4, 1), name="image"), keras.Input((2,), name="size")
    x = keras.layers.Concatenate()([keras.layers.Flatten()(image), size])
    outputs = {"label": keras.layers.Dense(3)(x), "price": keras.layers.Dense(1)(x)}
    model = keras.Model({"image": image, "size": size}, outputs)
    model.compile("sgd", {"label": "sparse_categorical_crossentropy", "price": "mse"})
    return model


def of_two(**changed):
    parts = {"image": np.zeros((40, 4, 4, 1), "uint8"), "size": X[:, :2], "label": LABELS, "price": X[:, 0], **changed}
    parts = {name: part for name, part in parts.items() if part is not None}
    y = {name: parts.pop(name) for name in ("label", "price") if name in parts}
    return tg.Data.from_arrays(parts, y)


def batches(x, y):
    return tg.Data.from_arrays(tf.data.Dataset.from_tensor_slices((x, y)).batch(8))


def test_tasks_that_fit():
    check_fits(tg.Data.from_arrays(X, LABELS), classifier(), metric=tg.Metric("accuracy"))
    check_fits(batches(X, LABELS), classifier())
    check_fits(tg.Data.from_arrays(X), classifier())  # without targets
    check_fits(tg.Data.from_arrays(X, X[:, 0]), classifier(1, None), loss="mse", metric=tg.Metric("mae"))
    check_fits(of_two(), two_inputs(), metric=tg.Metric("mae", output="price"))
    inputs = keras.Input((None, None, 1))
    segments = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    data = tg.Data.from_arrays(np.zeros((10, 8, 8, 1)), np.ones((10, 8, 8), int))
    check_fits(data, segments, loss="sparse_categorical_crossentropy")
    subclassed = zoo.TwoLayerNet(4)
    subclassed(np.zeros((1, 4), "float32"))
    check_fits(tg.Data.from_arrays(X, LABELS), subclassed)


BAD = {
    "a shape": (lambda: (tg.Data.from_arrays(X[:, :3], LABELS), classifier()),
                r"x_train of input 'point': expected shape \('samples', 4\), received \(36, 3\)"),
    "a missing input": (lambda: (of_two(size=None), two_inputs()), r"x_train: expected a dict with keys \['image'"),
    "a missing target": (lambda: (of_two(price=None), two_inputs()), r"y_train: expected a dict with keys \['label'"),
    "more inputs": (lambda: (of_two(), classifier()), r"x_train: expected one array \('point'\), received \['image'"),
    "texts": (lambda: (tg.Data.from_arrays(X.astype(str), LABELS), classifier()), "x_train of input 'point'.*numbers"),
    "a label": (lambda: (of_two(label=LABELS + 1), two_inputs()),
                r"y_train of output 'label': expected class numbers from 0 to 2, .* received 1\.\.3"),
    "a label in batches": (lambda: (batches(X, LABELS), classifier(2)), r"y_train: expected class numbers from 0 to 1"),
    "one-hot rows": (lambda: (tg.Data.from_arrays(X, np.eye(3)[LABELS]), classifier()), "received one-hot rows"),
    "NaN in batches": (lambda: (batches(X * np.nan, LABELS), classifier()), "x_train of .*: expected finite"),
    "no batch": (lambda: (tg.Data.from_arrays(tf.data.Dataset.from_tensor_slices((X, X)).batch(8).take(0)),
                          classifier()), "x_train: expected at least one sample"),
    "a vocabulary": (lambda: (tg.Data.from_arrays(LABELS.reshape(10, 4) + 9),
                              keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(5, 2)])),
                     "fails on samples of train"),
    "no data": (lambda: ((X, LABELS), classifier()), "data: expected a tg.Data"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(case):
    data, model = BAD[case][0]()
    with pytest.raises(TfgreenError, match=BAD[case][1]) as caught:
        check_fits(data, model)
    assert "\n" not in str(caught.value)


def test_a_loss_of_no_output_and_a_metric_that_cannot_be_computed():
    with pytest.raises(TfgreenError, match="loss of output: expected .*'label'.* received 'lable'"):
        check_fits(of_two(), two_inputs(), loss={"lable": "mse"})
    with pytest.raises(TfgreenError, match="names no output"):
        check_fits(of_two(), two_inputs(), metric=tg.Metric("mae"))
    with pytest.raises(TfgreenError, match="cannot be computed"):
        check_fits(tg.Data.from_arrays(X, X), classifier(3, None), metric=tg.Metric(keras.metrics.R2Score()))


def test_images_without_a_size_are_given_that_of_the_model(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(3):
            keras.utils.save_img(tmp_path / name / f"{number}.png", np.full((8, 8, 3), 9.0), scale=False)
    data = tg.Data.from_image_folder(tmp_path, validation_share=0)
    model = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(TfgreenError, match=r"Call data.with_image_size\(6, 5\)"):
        check_fits(data, model)
    check_fits(data.with_image_size(6, 5), model, loss="sparse_categorical_crossentropy")
