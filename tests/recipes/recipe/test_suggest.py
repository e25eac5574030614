"""suggest: a recipe for a model, its data and a budget, with the reason."""

from __future__ import annotations

import keras
import numpy as np

import tfgreen as tg
from tfgreen.recipes.recipe import built_in
from tfgreen.recipes.recipe.suggest import suggest

X, Y = np.zeros((20, 4)), np.arange(20) % 2
DATA, UNLABELLED = tg.Data.from_arrays(X, Y), tg.Data.from_arrays(X)


def test_what_the_model_the_data_and_the_budget_are_for(monkeypatch):
    names = ("balanced", "greenest", "microcontroller", "posttraining", "size", "speed", "transformer")
    monkeypatch.setattr(built_in, "names", lambda: names)
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    x = inputs = keras.Input((6, 4))
    attention = keras.Model(inputs, keras.layers.MultiHeadAttention(2, 4)(x, x))
    assert suggest(dense, DATA).name == "balanced"
    assert suggest(dense, UNLABELLED).name == "posttraining"
    assert suggest(dense, DATA, tg.Budget(max_memory="200kB", max_size="50kB")).name == "microcontroller"
    assert suggest(dense, DATA, tg.Budget(max_size="50kB", max_drop="1%")).name == "size"
    assert suggest(dense, DATA, tg.Budget(max_size="50kB", max_latency="1ms")).name == "balanced"
    assert suggest(dense, DATA, tg.Budget(max_joules="1mJ")).reason == "max_joules is the bound to keep"
    found = suggest(attention, DATA)
    assert found.name == "transformer" and "MultiHeadAttention" in found.reason


def test_only_recipes_that_there_are(monkeypatch):
    monkeypatch.setattr(built_in, "names", lambda: ("balanced",))
    assert suggest(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), UNLABELLED).name == "balanced"
