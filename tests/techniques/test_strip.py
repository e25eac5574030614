from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.model.paths import walk

NOW = tg.ConstantSparsity(0.5, begin_step=0)


def test_what_the_chains_compute_is_stored_in_plain_layers():
    model = zoo.nested()
    clustered = tg.cluster(tg.prune(model, schedule=NOW), number_of_clusters=4)
    tg.UpdateCompression(clustered)
    plain, x = tg.strip(clustered), zoo.sample("nested")
    assert not [layer for _, layer in walk(plain) if type(layer).__module__.startswith("tfgreen")]
    np.testing.assert_allclose(plain(x), clustered(x), atol=1e-6)
    kernels = [layer.kernel.numpy() for _, layer in walk(plain) if hasattr(layer, "kernel")]
    assert kernels
    for kernel in kernels:
        assert len(np.unique(kernel)) <= 4 and (kernel == 0).mean() >= 0.5 - 0.5 / kernel.size


def test_constraints_and_trainability_of_the_user_are_those_of_before():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, kernel_constraint="non_neg", name="out")])
    model.get_layer("out").trainable = False
    pruned = tg.prune(model, schedule=NOW)
    stored = pruned.get_layer("out").layer.kernel.constraint
    out = tg.strip(pruned).get_layer("out")
    assert type(stored).__name__ == "Projection"
    assert isinstance(out.kernel.constraint, keras.constraints.NonNeg) and not out.trainable


def test_the_compressed_model_is_left_as_it_is_and_a_plain_one_is_copied():
    pruned = tg.prune(zoo.functional(), schedule=NOW)
    tg.UpdateCompression(pruned)
    before = pruned.get_weights()
    stripped = tg.strip(pruned)
    for old, new in zip(before, pruned.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    again = tg.strip(stripped)
    assert again is not stripped and again.get_layer("hidden") is not stripped.get_layer("hidden")
    for old, new in zip(stripped.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_something_else_than_a_model_is_named():
    with pytest.raises(TypeError, match="model: expected a keras.Model.*received Dense"):
        tg.strip(layers.Dense(2))
