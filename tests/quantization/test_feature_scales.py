from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.quantization.feature_scales import lost_channels, needs_float_input

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


RNG = np.random.default_rng(0)
SCORES = np.concatenate([RNG.uniform(0, 300, (64, 4)), RNG.uniform(0.2, 1, (64, 3))], axis=1)


def rounded(values: np.ndarray) -> np.ndarray:
    scale = np.ptp(values) / 255
    return np.round(values / scale) * scale


def test_channels_that_one_scale_loses():
    assert lost_channels(SCORES, rounded(SCORES)) == [4, 5, 6]
    assert lost_channels(SCORES.reshape(8, 8, 7), rounded(SCORES).reshape(8, 8, 7)) == [4, 5, 6]
    assert lost_channels(SCORES, SCORES + 1e-3) == []
    assert lost_channels(SCORES[:, :1], SCORES[:, :1] * 0.5) == []  # far off, and not for its scale
    dead = np.where(np.arange(7) < 4, SCORES, 1e-6)
    assert lost_channels(dead, rounded(dead)) == []  # nothing was there
    seldom = np.where((np.arange(64) < 4)[:, None] | (np.arange(7) < 4), SCORES, 0.0)
    assert lost_channels(seldom, rounded(seldom)) == []  # a ReLU that was active on few samples
    assert lost_channels(np.where(SCORES > 290, np.nan, SCORES), SCORES) == []


def test_probabilities_of_classes_are_judged_by_the_largest():
    probabilities = np.tile([0.993, 0.002, 0.005], (64, 1))
    assert lost_channels(probabilities, np.round(probabilities)) == []
    assert lost_channels(probabilities * [1, 1, 0.9], np.round(probabilities), 1 / 256) == []


def test_integers_lose_no_channels():
    assert lost_channels(SCORES > 0.3, SCORES > 0.6) == []
    assert lost_channels(SCORES.astype("int32"), SCORES.astype("int32") + 1) == []
