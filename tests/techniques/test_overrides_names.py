"""Patterns mean a layer inside a block by the attribute that holds it, or by its name: whatever the verb."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.model.paths import holder_of
from tfgreen.transforms.compressed import compressed_layers


class Block(layers.Layer):
    """Layers whose names differ from the attributes that hold them, one of them in a block of its own."""

    def __init__(self, inner: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.parts = [layers.Dense(8, activation="relu", name="up"), layers.Dense(6, name="down")]
        self.inner = Block(inner=False, name="within") if inner else None

    def call(self, x):
        y = x
        for part in self.parts:
            y = part(y)
        return x + y if self.inner is None else self.inner(x + y)


def blocks() -> keras.Model:
    inputs = keras.Input((5, 6))
    return keras.Model(inputs, layers.Dense(3, name="head")(Block(name="block")(inputs)))


PATHS = (  # by attributes, by names, and how many kernels they leave out
    ("block/parts/0", "block/up", 1),
    ("block/inner/parts/1", "block/within/down", 1),
    ("block/inner", "block/within", 2),
    ("block/*/[01]", "block/*[pn]", 4),
)
VERBS = {
    "prune": lambda layers: tg.prune(blocks(), schedule=tg.ConstantSparsity(0.5, begin_step=0), layers=layers),
    "cluster": lambda layers: tg.cluster(blocks(), number_of_clusters=4, layers=layers),
    "quantize_weights": lambda layers: tg.quantize_weights(blocks(), layers=layers),
    "quantize": lambda layers: tg.quantize(blocks(), calibration_data=np.ones((4, 5, 6)), layers=layers),
    "keep_float": lambda layers: tg.quantize(
        blocks(), calibration_data=np.ones((4, 5, 6)), keep_float=tuple(layers)
    ),
}


def compressed(model: keras.Model) -> set[str]:
    """The layers of which a kernel is compressed."""
    found = [(path, chain.weight) for path, layer in compressed_layers(model) for chain in layer.chains]
    return {holder_of(path, weight) for path, weight in found if "kernel" in weight}


@pytest.mark.parametrize("verb", zoo.one_in(3, VERBS))
def test_patterns_mean_layers_inside_blocks_by_attributes_and_by_names(verb):
    whole = compressed(VERBS[verb]({}))
    assert len(whole) == 5
    for by_attributes, by_names, count in PATHS:
        left_out = [whole - compressed(VERBS[verb]({pattern: None})) for pattern in (by_attributes, by_names)]
        assert left_out[0] == left_out[1] and len(left_out[0]) == count, (by_attributes, left_out)


def test_a_pattern_of_the_insides_keeps_a_block_open(monkeypatch):
    """What is noisy is tried closed too, where no pattern means what is inside."""
    monkeypatch.setattr("tfgreen.techniques.quantize.LOST", 0.0)
    assert "block/down" in compressed(VERBS["quantize"]({"block/up": None}))
