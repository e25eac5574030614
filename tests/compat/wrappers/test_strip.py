"""What each of TFMOT's strip functions takes off, and what it leaves."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
import tfgreen.compat as tfmot
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.transforms.mask import Mask

pytestmark = pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")
sparsity, clustering, qk = tfmot.sparsity.keras, tfmot.clustering.keras, tfmot.quantization.keras
X = np.random.default_rng(0).normal(size=(64, 12)).astype("float32")
Y = X[:, :3]


def net() -> keras.Model:
    return keras.Sequential([
        keras.Input((12,)), layers.Dense(16, activation="relu", name="first"), layers.Dense(3, name="head")
    ])


def fitted(model: keras.Model) -> keras.Model:
    model.compile("adam", "mse")
    masks = [item for _, layer in compressed_layers(model) for chain in layer.chains for item in chain.transforms]
    callbacks = [sparsity.UpdatePruningStep()] if any(isinstance(item, Mask) for item in masks) else []
    model.fit(X, Y, epochs=2, verbose=0, callbacks=callbacks)
    return model


def kernel(model: keras.Model) -> np.ndarray:
    layer = model.get_layer("first")
    return np.asarray(layer.chained[0].effective() if hasattr(layer, "chained") else layer.kernel)


def kinds(model: keras.Model) -> set[str]:
    return {type(layer).__name__ for layer in model.layers}


def test_masks_go_and_trained_ranges_stay():
    quantized = fitted(qk.quantize_model(fitted(sparsity.prune_low_magnitude(net()))))
    outputs = quantized.predict(X, verbose=0)
    stripped = sparsity.strip_pruning(quantized)
    assert kinds(stripped) == {"Quantized"} and kinds(quantized) == {"Quantized"}
    np.testing.assert_array_equal(stripped.predict(X, verbose=0), outputs)
    np.testing.assert_array_equal(quantized.predict(X, verbose=0), outputs)
    stored = np.asarray(stripped.get_layer("first").layer.kernel)
    assert np.mean(stored == 0) >= 0.5
    assert tg.convert(stripped, quantization="int8").operators["FULLY_CONNECTED"] == 2


@pytest.mark.parametrize("order", ["pruned, clustered", "clustered, pruned"])
def test_of_masks_and_shared_values_each_is_taken_off_alone(order):
    def pruned(model: keras.Model) -> keras.Model:
        return sparsity.prune_low_magnitude(model, sparsity.ConstantSparsity(0.5, 0))

    def clustered(model: keras.Model) -> keras.Model:
        return clustering.cluster_weights(model, 4, preserve_sparsity=True)

    both = clustered(fitted(pruned(net()))) if order == "pruned, clustered" else pruned(fitted(clustered(net())))
    before = kernel(both)
    without_masks, without_codebooks = sparsity.strip_pruning(both), clustering.strip_clustering(both)
    assert kinds(without_masks) == {"ClusterWeights"} and kinds(without_codebooks) == {"PruneLowMagnitude"}
    np.testing.assert_allclose(kernel(without_masks), before, atol=1e-6)
    np.testing.assert_allclose(kernel(without_codebooks), before, atol=1e-6)
    last = sparsity.strip_pruning(without_codebooks)
    assert kinds(last) == {"Dense"}
    np.testing.assert_allclose(kernel(last), before, atol=1e-6)


def test_what_has_none_of_a_kind_stays_as_it_is():
    quantized = fitted(qk.quantize_model(net()))
    outputs = quantized.predict(X, verbose=0)
    for strip in (sparsity.strip_pruning, clustering.strip_clustering):
        same = strip(quantized)
        assert kinds(same) == {"Quantized"}
        np.testing.assert_array_equal(same.predict(X, verbose=0), outputs)


def test_single_layers_and_unbuilt_models_lose_their_own_wrapper_only():
    wrapper = sparsity.prune_low_magnitude(layers.Dense(3))
    assert type(sparsity.strip_pruning(wrapper)) is layers.Dense and clustering.strip_clustering(wrapper) is wrapper
    unbuilt = keras.Sequential([sparsity.prune_low_magnitude(layers.Dense(3)), layers.Dense(2)])
    assert kinds(sparsity.strip_pruning(unbuilt)) == {"Dense"}
    assert kinds(clustering.strip_clustering(unbuilt)) == {"PruneLowMagnitude", "Dense"}


def test_a_model_of_the_users_class_that_holds_a_pruned_layer_is_pruned_once_and_stripped():
    class Holder(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.first = layers.Dense(12)
            self.last = sparsity.prune_low_magnitude(layers.Dense(3), sparsity.ConstantSparsity(0.5, 0))

        def call(self, x):
            return self.last(self.first(x))

    model = Holder()
    model(X[:1])
    pruned = fitted(sparsity.prune_low_magnitude(model, sparsity.ConstantSparsity(0.5, 0)))
    stripped = sparsity.strip_pruning(pruned)
    np.testing.assert_allclose(stripped.predict(X, verbose=0), pruned.predict(X, verbose=0), atol=1e-5)
    assert len(stripped.weights) == 4
    assert [np.mean(np.asarray(w) == 0) >= 0.5 for w in stripped.weights if len(w.shape) == 2] == [True, True]
