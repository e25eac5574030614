from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tfgreen.quantization.shared_graph import SharedGraph, let_layers_be_shared


class Backbone(keras.Model):
    """As KerasHub's: of a class with a constructor of its own."""

    def __init__(self, **kwargs):
        inputs = keras.Input((4,), dtype="int32")
        table = layers.Embedding(9, 8, name="table")
        super().__init__(inputs, layers.Dense(8, name="dense")(table(inputs)), **kwargs)
        self.table = table


class LanguageModel(keras.Model):
    """It calls a layer that its backbone calls too."""

    def __init__(self, **kwargs):
        inputs, backbone = keras.Input((4,), dtype="int32"), Backbone(name="backbone")
        super().__init__(inputs, layers.Dense(9, name="head")(backbone(inputs) + backbone.table(inputs)), **kwargs)
        self.backbone = backbone


@pytest.mark.slow
def test_a_layer_that_a_nested_model_shares_is_loaded_once(tmp_path):
    model, x = LanguageModel(), np.random.default_rng(0).integers(0, 9, (16, 4))
    quantized = tg.quantize(model, calibration_data=x)
    for saved in (quantized, tg.strip(quantized)):
        saved.save(tmp_path / "m.keras")
        loaded = tg.load_model(tmp_path / "m.keras")
        assert isinstance(loaded, SharedGraph) and len(loaded.weights) == len(saved.weights)
        assert loaded.get_layer("table") is loaded.get_layer("backbone").get_layer("table")
        loaded.save(tmp_path / "again.keras")
        for model in (loaded, tg.load_model(tmp_path / "again.keras")):
            np.testing.assert_array_equal(model.predict(x, verbose=0), saved.predict(x, verbose=0))


def test_a_model_whose_graphs_share_nothing_stays_what_it_is():
    inputs, inner = keras.Input((3,)), keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    model = let_layers_be_shared(keras.Model(inputs, inner(inner(inputs))))
    assert type(model).__name__ == "Functional"
