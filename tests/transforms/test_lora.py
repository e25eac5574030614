"""LoRA under a chain: what is compressed is what the layer computes with, and it is merged in the end."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.transforms.lora import adapters, merge_adapters

X = np.random.default_rng(0).normal(size=(64, 6, 6, 2)).astype("float32")
HALF = tg.ConstantSparsity(0.5, begin_step=0, frequency=1)
VERBS = {
    "prune": lambda model: tg.prune(model, schedule=HALF),
    "cluster": lambda model: tg.cluster(model, number_of_clusters=4),
    "quantize": lambda model: tg.quantize(model, calibration_data=X),
}


def adapted() -> keras.Model:
    """A model with LoRA on every class of layer that has it, and adapters that are not zero."""
    model = keras.Sequential([
        keras.Input((6, 6, 2)), layers.Conv2D(4, 3, activation="relu", name="conv"), layers.Reshape((16, 4)),
        layers.EinsumDense("abc,cd->abd", output_shape=(16, 6), activation="relu", name="einsum"), layers.Flatten(),
        layers.Dense(3, name="dense"),
    ])
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2, lora_alpha=4)
            for adapter in adapters(layer).values():
                adapter.b.assign(rng.normal(size=adapter.b.shape))
    return model


def trained(model: keras.Model, steps: int = 4) -> keras.Model:
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    y = np.random.default_rng(2).normal(size=(len(X), 3)).astype("float32")
    model.fit(X, y, batch_size=len(X) // steps, verbose=0, callbacks=[tg.UpdateCompression()])
    return model


@pytest.mark.parametrize("verb", VERBS)
def test_the_kernel_and_its_adapter_are_compressed_together(verb, tmp_path):
    model = adapted()
    before = model.get_layer("dense").lora_kernel_b.numpy()
    result = trained(VERBS[verb](model))
    inner = result.get_layer("dense").layer
    assert inner.lora_enabled and not np.array_equal(inner.lora_kernel_b, before)  # the adapter is what was trained
    np.testing.assert_array_equal(model.get_layer("dense").lora_kernel_b, before)
    expected = result(X).numpy()
    result.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(X), expected, atol=1e-5)
    if verb == "quantize":  # strip drops the ranges of the activations
        for _, layer in compressed_layers(result):
            layer.activations = None
        expected = result(X).numpy()
    plain = tg.strip(result)
    np.testing.assert_allclose(plain(X), expected, atol=1e-5)
    for name in ("conv", "einsum", "dense"):
        layer = plain.get_layer(name)
        assert not layer.lora_enabled and len(layer.weights) == (2 if layer.bias is not None else 1)
        kernel = layer.kernel.numpy()
        if verb == "prune":
            assert np.mean(kernel == 0) == pytest.approx(0.5, abs=0.01)
        if verb == "cluster":
            assert len(np.unique(kernel)) <= 4


def test_zeros_and_clusters_reach_the_file():
    plain = tg.strip(trained(tg.prune(adapted(), schedule=HALF)))
    assert tg.convert(plain).sparsity > 0.45
    plain = tg.strip(trained(tg.cluster(adapted(), number_of_clusters=4)))
    assert all(len(np.unique(weight.values)) <= 4 for weight in tg.convert(plain).weights.values())


def test_the_summary_counts_zeros_of_both_together_and_explains_the_adapter():
    rows = {(row.layer, row.weight): row for row in tg.summary(trained(tg.prune(adapted(), schedule=HALF))).weights}
    assert rows["dense", "kernel"].sparsity == pytest.approx(0.5, abs=0.01)
    assert "LoRA" in rows["dense", "lora_kernel_a"].reason and not rows["dense", "lora_kernel_a"].done


def test_an_embedding_with_an_adapter():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(20, 6, name="table")])
    table = model.get_layer("table")
    table.enable_lora(2)
    table.lora_embeddings_b.assign(np.random.default_rng(0).normal(size=(2, 6)))
    tokens = np.arange(20).reshape(5, 4)
    result = tg.cluster(model, number_of_clusters=4)
    plain = tg.strip(result)
    np.testing.assert_allclose(plain(tokens), result(tokens), atol=1e-6)
    assert len(np.unique(plain.get_layer("table").embeddings)) == 4


def test_a_pattern_does_not_take_the_adapter_apart():
    pruned = tg.prune(adapted(), schedule=HALF, extra_weights=("dense/*",))
    assert {chain.weight for chain in pruned.get_layer("dense").chains} == {"kernel", "bias"}


def test_merged_layers_compute_the_same_and_train_their_kernel():
    layer = adapted().get_layer("dense")
    kernel = layer.kernel.numpy()
    merge_adapters(layer)
    np.testing.assert_allclose(layer.kernel, kernel, atol=1e-6)
    assert [variable.name for variable in layer.trainable_weights] == ["kernel", "bias"]
    assert layer.get_config().get("lora_rank") is None


def test_biases_are_corrected_for_what_the_file_holds_of_a_kernel_with_an_adapter():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="out")])
    model.set_weights([np.array([[100.0], [0.25]]), np.zeros(1)])
    out = model.get_layer("out")
    out.enable_lora(1)
    out.lora_kernel_a.assign([[1.0], [0.0]])
    out.lora_kernel_b.assign([[27.0]])  # 127 and 0.25 together, of which the latter is rounded to 0
    data = np.array([[0.0, 3.0], [0.0, 5.0]], "float32")
    np.testing.assert_allclose(tg.correct_bias(model, data).get_layer("out").bias, [1.0])
