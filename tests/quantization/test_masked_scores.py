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


@pytest.mark.parametrize("never", [-1e9, -1e4])
def test_a_softmax_that_is_written_out_tells_scores_apart_too(never):
    x, mask = keras.Input((6, 8)), keras.Input((6,))
    q, k, v = (layers.Dense(8)(x) for _ in range(3))
    scores = ops.matmul(q, ops.transpose(k, (0, 2, 1))) * 0.35 + (1.0 - ops.expand_dims(mask, 1)) * never
    shares = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
    shares = shares / ops.sum(shares, axis=-1, keepdims=True)
    model, rng = keras.Model([x, mask], ops.matmul(shares, v)), np.random.default_rng(0)
    lengths = rng.integers(3, 7, (128, 1))
    data = [rng.normal(size=(128, 6, 8)).astype("float32"), (np.arange(6) < lengths).astype("float32")]
    expected, trained = model.predict(data, verbose=0), tg.quantize(model, calibration_data=data)
    file = tg.convert(model, quantization="int8", calibration_data=data)
    for got in (trained.predict(data, verbose=0), file.predict(data)):
        assert expected.var() / np.square(expected - got).mean() > 100


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
