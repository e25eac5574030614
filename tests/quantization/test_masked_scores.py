"""Masked scores, which no range of integers can hold beside the others."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tests.deploy.conversion.test_operations import attended
from tfgreen.model.call_spec import read_call_spec
from tfgreen.quantization.masked_scores import masked_operations


def found(model, *arrays):
    spec = read_call_spec(model)
    return masked_operations(model, spec, {item.name: x for item, x in zip(spec.inputs, arrays)})


def test_what_holds_masks_and_the_softmax_that_reads_them_are_found():
    model, x = attended("sum")
    names = {name.rstrip("_0123456789") for name in found(model, *(array[:8] for array in x))}
    assert names == {"multiply", "add", "softmax"}


def test_large_numbers_are_no_masks():
    x = keras.Input((8,))
    model = keras.Model(x, layers.Softmax()(layers.Rescaling(1.0)(x)))
    sound = np.random.default_rng(0).normal(0, 9000, size=(16, 8)).astype("float32")
    assert sound.min() < -1e4 and found(model, sound) == set()
    assert found(keras.Model(x, ops.where(x > 0, x, -1e9)), sound) == set()  # nothing reads them as scores


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sum", "chosen sum", "least", "constant"])
def test_a_model_trains_with_scores_that_can_be_told_apart(kind):
    model, x = attended(kind)
    expected = np.asarray(model(x), np.float64)
    trained = tg.quantize(model, calibration_data=x)
    file = tg.convert(trained, quantization="int8")
    for got in (np.asarray(trained(x)), file.predict(x)):
        noise = np.square(expected - got).mean() / np.square(expected - expected.mean(0)).mean()
        assert -10 * np.log10(noise) > 25
