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


def with_lora(trained: bool = True) -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    table, attention = layers.Embedding(7, 6, name="table"), layers.MultiHeadAttention(2, 3, name="attention")
    x = table(inputs)
    shared = layers.Dense(6, name="shared")
    x = shared(shared(attention(x, x)))
    model = keras.Model(inputs, keras.Sequential([keras.Input((5, 6)), layers.Dense(2, name="out")], name="head")(x))
    for layer in (table, attention.query_dense, shared, model.get_layer("head").get_layer("out")):
        layer.enable_lora(2)
        if trained:
            b = next(weight for weight in layer.weights if weight.name.endswith("_b"))
            b.assign(np.random.default_rng(0).normal(size=b.shape))
    return model


def test_merged_adapters_leave_outputs_equal_and_layers_that_every_verb_takes(tmp_path):
    model, x = with_lora(), np.random.default_rng(0).integers(0, 7, (4, 5)).astype("int32")
    before = [np.array(weight) for weight in model.weights]
    merged = tg.merge_lora(model)
    np.testing.assert_allclose(merged(x), model(x), rtol=1e-5, atol=1e-5)
    assert not any("lora" in weight.name for weight in merged.weights)
    assert all(weight.trainable for weight in merged.weights)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    merged.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), merged(x))


def test_what_has_no_adapters_to_merge_is_said():
    plain = zoo.functional()
    with pytest.raises(ValueError, match="has no LoRA adapter.*enable_lora"):
        tg.merge_lora(plain)
    with pytest.raises(ValueError, match=r"is compressed.*tg\.strip\(model\) first"):
        tg.merge_lora(tg.prune(with_lora()))
    with pytest.raises(TypeError, match="keras.Model"):
        tg.merge_lora(plain.layers[1])
    integers = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="out")])
    integers.get_layer("out").quantize("int8")
    integers.get_layer("out").enable_lora(2)
    with pytest.raises(ValueError, match=r"adapters of \['out'\] are added to integers.*before quantize"):
        tg.merge_lora(integers)
