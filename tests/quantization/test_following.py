from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tfgreen.quantization.following import following, following_ranges

X = np.random.default_rng(0).normal(size=(32, 12)).astype("float32")


def quantized(**config) -> keras.Model:
    inner = [layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.5, seed=1), layers.Dense(3)]
    return tg.quantize(keras.Sequential([keras.Input((12,)), *inner]), calibration_data=X, **config)


def test_a_whole_batch_moves_ranges_and_nothing_else():
    model = quantized()
    ranges = following_ranges(model)
    before = [variable.numpy() for variable in model.variables]
    with following(model, ranges, 3 * X):
        moved = [v.numpy() for v in model.variables]
        model(9 * X, training=True)
        still = {id(v) for range_ in ranges for v in range_.variables}
        assert all(np.array_equal(v, old) for v, old in zip(model.variables, moved) if id(v) in still)
    changed = {v.name for v, old, new in zip(model.variables, before, moved) if not np.array_equal(old, new)}
    assert changed == {"lower", "upper"}
    alike = quantized()
    alike(3 * X, training=True)
    for range_, other in zip(ranges, following_ranges(alike), strict=True):
        if range_.name == "input_0":  # the others come after what dropout drew
            np.testing.assert_array_equal(range_.numbers(), other.numbers())
    model(9 * X, training=True)
    assert any(not np.array_equal(v, old) for v, old in zip(model.variables, moved) if id(v) in still)


@pytest.mark.parametrize("config", [{"ranges": "learned"}, {"ranges": "fixed"}, {"freeze_after": 0}])
def test_ranges_that_no_batch_moves(config):
    assert following_ranges(quantized(**config)) == []
    assert len(following_ranges(quantized())) >= 3
