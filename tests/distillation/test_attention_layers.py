from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.distillation.attention_layers import probabilities, projections
from tfgreen.model.layer_calls import listening


@pytest.mark.parametrize(
    "layer",
    [
        layers.MultiHeadAttention(2, 4), layers.MultiHeadAttention(2, 4, dropout=0.5),
        layers.GroupQueryAttention(4, 4, 2),
    ],
    ids=["fused", "dropout", "grouped"],
)
def test_probabilities_are_kept_and_the_output_stays(layer):
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    expected, scores = layer(x, x, return_attention_scores=True)
    assert set(projections(layer)) == {"query", "key", "value"}
    kept: list = []
    target, around = probabilities(layer, kept.append)
    with listening({target: around}):
        output = layer(x, x, use_causal_mask=False)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    np.testing.assert_allclose(kept[0], scores, atol=1e-6)
    assert len(kept) == 1 and "_compute_attention" not in vars(layer)


def test_layers_that_are_no_attention():
    dense = keras.layers.Dense(3)
    dense.build((None, 2))
    assert projections(dense) == {}
