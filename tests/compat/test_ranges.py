"""Ranges that need no calibration data."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfgreen.compat.quantization.keras import quantizers as q
from tfgreen.compat.ranges import (
    AllValuesRange,
    FileRange,
    FirstBatchRange,
    GivenRange,
    NamedWeights,
    QuantizerRange,
    as_range,
)
from tfgreen.quantization.ranges import FixedRange
from tfgreen.transforms.exporting import exporting

X = tf.constant([-1.0, 0.123, 1.55])


def built(range_):
    range_.build()
    range_.built = True
    return range_


@pytest.mark.parametrize("cls", [FirstBatchRange, AllValuesRange], ids=["first batch", "all values"])
def test_nothing_is_rounded_before_the_first_batch(cls):
    range_ = built(cls())
    np.testing.assert_array_equal(range_(X), X)
    with exporting(), pytest.raises(ValueError, match="has not seen a training batch.*calibration_data"):
        range_(X)
    range_.follow(X * 0)  # holds nothing
    np.testing.assert_array_equal(range_(X), X)
    range_.follow(X)
    np.testing.assert_allclose(range_.numbers(), [-1.0, 1.55])
    np.testing.assert_allclose(range_(X), [-1.0, 0.12, 1.55], atol=1e-6)
    range_.follow(2 * X)
    assert range_.numbers()[1] == pytest.approx(3.1 if cls is AllValuesRange else 1.5655)


def test_calibration_counts_as_seen():
    range_ = built(FirstBatchRange())
    range_.set(-1.0, 1.0)
    range_.follow(X)
    assert range_.numbers()[1] == pytest.approx(1.0055)


@keras.saving.register_keras_serializable(package="test_ranges")
class Halves(q.Quantizer):
    def build(self, tensor_shape, name, layer):
        return {"calls": layer.add_weight(name + "_calls", initializer="zeros", trainable=False)}

    def __call__(self, inputs, training, weights, **kwargs):
        if training:
            weights["calls"].assign_add(1.0)
        return tf.round(inputs * 2) / 2

    def get_config(self):
        return {}


def test_a_quantizer_of_the_users_own_rounds_the_output_and_nothing_else():
    range_ = as_range(Halves())
    assert isinstance(range_, QuantizerRange)
    output = built(QuantizerRange.from_config({**range_.get_config(), "name": "output"}))
    output.follow(X)
    np.testing.assert_allclose(output(X), [-1.0, 0.0, 1.5], atol=0.01)
    assert float(output.state["calls"].value) == 0
    output(X, training=True)
    assert float(output.state["calls"].value) == 1
    assert type(QuantizerRange.from_config({**range_.get_config(), "name": "input_0"})) is FirstBatchRange


def test_the_quantizers_of_tfmot_become_ranges():
    moving = as_range(q.MovingAverageQuantizer(6, False, True, False))
    assert (type(moving), moving.bits, moving.symmetric, moving.momentum) == (FirstBatchRange, 6, True, 0.99)
    assert as_range(q.LastValueQuantizer(8, False, False, False)).momentum == 0
    assert type(as_range(q.AllValuesQuantizer(8, False, False, False))) is AllValuesRange
    fixed = as_range(q.FixedQuantizer(8, -1.0, 1.0, False))
    assert isinstance(fixed, GivenRange) and isinstance(fixed, FixedRange) and fixed.fixed == (-1.0, 1.0)
    assert type(GivenRange.from_config({**fixed.get_config(), "name": "input_0"})) is FirstBatchRange
    assert GivenRange.from_config({**fixed.get_config(), "name": "output"}).fixed == (-1.0, 1.0)


def test_weights_are_added_by_name_first_as_in_keras_2():
    layer = keras.layers.Layer(name="mine")
    variable = NamedWeights(layer).add_weight("x_min", (2,), initializer="ones")
    assert (variable.name, tuple(variable.shape), NamedWeights(layer).name) == ("x_min", (2,), "mine")


def test_the_range_of_a_file_alone_leaves_the_model_alone():
    range_ = built(FileRange())
    range_.follow(X)
    np.testing.assert_array_equal(range_(X, training=True), X)
    with exporting():
        np.testing.assert_allclose(range_(X), [-1.0, 0.12, 1.55], atol=1e-6)
    assert type(FileRange.from_config({"name": "input_0"})) is FirstBatchRange
