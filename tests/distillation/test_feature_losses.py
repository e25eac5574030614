from __future__ import annotations

import numpy as np

import tfgreen as tg
from tfgreen.distillation import divergences as losses


def test_each_loss_computes_its_function():
    t, s = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    layers = {"teacher_layer_name": "a", "student_layer_name": "b"}
    for loss, expected in (
        (tg.FeatureDistillation(), losses.mean_squared_error(t, s)),
        (tg.FeatureDistillation(loss="cosine"), losses.cosine_distance(t, s)),
        (tg.AttentionTransfer(power=1.0, **layers), losses.attention_transfer(t, s, 1.0)),
    ):
        np.testing.assert_allclose(loss.values(t, s, weights=np.ones((3, 4), "float32")), expected, rtol=1e-6)
