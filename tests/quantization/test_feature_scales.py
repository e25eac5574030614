from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.quantization.feature_scales import needs_float_input

LAYERS = {
    "images": (layers.Normalization(mean=[124.0, 116.0, 104.0], variance=[58.0**2, 57.0**2, 57.0**2]), False),
    "images of one mean": (layers.Normalization(mean=0.5, variance=0.08, axis=None), False),
    "far from zero": (layers.Normalization(mean=3000.0, variance=1.0, axis=None), True),
    "spreads": (layers.Normalization(mean=[0.0] * 3, variance=[1.0, 1e4, 1e-2]), True),
    "never changes": (layers.Normalization(mean=[0.0, 0.0, 7.0], variance=[1.0, 1.0, 0.0]), True),
    "always 0": (layers.Normalization(mean=[0.0, 0.0, 0.0], variance=[1.0, 1.0, 0.0]), False),
    "inverse": (layers.Normalization(mean=[0.0] * 3, variance=[1.0, 1e4, 1e-2], invert=True), False),
    "one factor": (layers.Rescaling(1 / 127.5, offset=-1.0), False),
    "same factor": (layers.Rescaling([1.0] * 3, offset=[-123.0, -117.0, -104.0]), False),
    "factors": (layers.Rescaling([1.0, 1.0, 100.0]), True),
    "statistics": (layers.BatchNormalization(), False),
    "other": (layers.Dense(3), False),
}


@pytest.mark.parametrize("layer, needs", LAYERS.values(), ids=LAYERS)
def test_features_fit_one_scale_or_need_floats(layer, needs):
    layer.build((None, 3))
    assert needs_float_input(layer) is needs


def test_what_adapting_and_training_saw_counts():
    x = np.random.default_rng(0).normal(size=(100, 3)) * [1, 100, 0.1]
    norm, batch_norm = layers.Normalization(), layers.BatchNormalization()
    norm.adapt(x)
    batch_norm.build((None, 3))
    batch_norm.moving_variance.assign(x.var(0))
    assert needs_float_input(norm) and needs_float_input(batch_norm)


def test_a_subclass_may_compute_something_else():
    class Own(layers.Normalization):
        def call(self, inputs):
            return keras.ops.tanh(inputs)

    assert not needs_float_input(Own(mean=[0.0] * 2, variance=[1.0, 1e6]))
