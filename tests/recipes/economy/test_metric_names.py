from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfgreen.recipes.economy.metric_names import check_metric, metric_names


def two_outputs() -> keras.Model:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [keras.layers.Dense(1, name="o1")(inputs), keras.layers.Dense(2, name="o2")(inputs)])
    model.compile("sgd", ["mse", "mae"], metrics=[["mae"], ["mse"]])
    return model


def test_the_names_are_those_of_a_training_and_nothing_is_trained():
    model = two_outputs()
    before = model.get_weights()
    x = np.ones((8, 4))
    y = [x[:, :1], x[:, :2]]
    found = metric_names(model, {"x": x, "y": y})
    batches = tf.data.Dataset.from_tensor_slices((x, tuple(y))).batch(4)
    assert found == metric_names(two_outputs(), {"x": batches})
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found is not None and sorted(model.fit(x, y, verbose=0).history) == sorted(found)


@pytest.mark.parametrize(
    "name, validates, fix",
    [
        ("VAL_LOSS", False, "Pass validation_data, and metric='val_loss'."),
        ("VAL_LOSS", True, "Did you mean 'val_loss'?"),
        ("val_acc", True, "Did you mean 'val_accuracy'?"),
        ("val_loss", False, "Pass validation_data."),
        ("xyz", True, "received 'xyz'."),
    ],
)
def test_a_metric_that_is_not_there_is_named_with_the_one_that_was_meant(name, validates, fix):
    with pytest.raises(ValueError, match="metric: expected one of") as error:
        check_metric("metric", name, ["loss", "accuracy"], validates)
    assert str(error.value).endswith(fix)
    check_metric("metric", "val_accuracy" if validates else "accuracy", ["loss", "accuracy"], validates)
