from __future__ import annotations

import numpy as np

import tfgreen as tg
from tfgreen.distillation import divergences as losses


def test_each_loss_computes_its_function():
    rng = np.random.default_rng(0)
    t, s = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    labels, weights = rng.integers(0, 5, (3, 4)), np.ones((3, 4), "float32")
    context = {"activation": "softmax", "labels": labels, "weights": weights, "step": 0}
    for loss, expected in (
        (tg.LogitsDistillation(temperature=3.0), losses.kl_divergence(t, s, 3.0)),
        (tg.LogitsDistillation(temperature=3.0, loss="categorical_crossentropy"), losses.soft_cross_entropy(t, s, 3.0)),
        (tg.DecoupledDistillation(temperature=3.0, beta=2.0), losses.decoupled_kl(t, s, labels, 3.0, 1.0, 2.0)),
        (tg.RelationalDistillation(gamma=2.0), losses.relational(t, s, 1.0, 1.0, 2.0)),
    ):
        np.testing.assert_allclose(loss.values(t, s, **context), expected, rtol=1e-6)
    binary = tg.LogitsDistillation(temperature=3.0).values(t, s, **{**context, "activation": "sigmoid"})
    np.testing.assert_allclose(binary, losses.of_each_label(losses.kl_divergence, t, s, 3.0), rtol=1e-6)
