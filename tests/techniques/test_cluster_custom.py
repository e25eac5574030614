"""Clustering algorithms of the user's, and what quantization keeps of clusters: per channel, or beside dense zeros."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.quantized import in_int8, normal, quantized

X = normal(6, 6, 2)


@keras.saving.register_keras_serializable("tests")
def quantiles(values: np.ndarray, count: int) -> np.ndarray:
    return np.quantile(values, np.linspace(0, 1, count))


@keras.saving.register_keras_serializable("tests")
def below(weights: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The largest centroid that is not above each weight, else the smallest."""
    order = np.argsort(centroids)
    return order[np.maximum(np.searchsorted(centroids[order], weights, "right") - 1, 0)]


def network() -> keras.Model:
    conv = layers.Conv2D(4, 3, name="conv")
    return keras.Sequential([keras.Input((6, 6, 2)), conv, layers.Flatten(), layers.Dense(5, name="head")])


def fitted(model: keras.Model) -> keras.Model:
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    model.fit(X, np.ones((64, 5)), batch_size=8, verbose=0, callbacks=[tg.UpdateCompression()])
    return model


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_centroids_and_assignments_are_those_of_the_users_functions(per_channel, sparse):
    model = network()
    if sparse:
        kernel = model.get_layer("conv").kernel
        kernel.assign(kernel * (np.abs(kernel.numpy()) > 0.1))
    settings = {"centroids_init": quantiles, "assignment": below, "per_channel": per_channel}
    clustered = tg.cluster(model, number_of_clusters=5, preserve_sparsity=sparse, layers={"head": None}, **settings)
    found = tg.strip(clustered).get_layer("conv").kernel.numpy().reshape(-1, 4)
    original = model.get_layer("conv").kernel.numpy().reshape(-1, 4)
    if sparse:
        np.testing.assert_array_equal(found == 0, original == 0)
        return
    columns = original.T if per_channel else original.reshape(1, -1)
    expected = []
    for column in columns:
        centroids = np.quantile(column, np.linspace(0, 1, 5)).astype("float32")
        expected.append(centroids[np.maximum(np.searchsorted(centroids, column, "right") - 1, 0)])
    expected = np.stack(expected).T if per_channel else np.reshape(expected, (-1, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.slow
def test_an_algorithm_of_ones_own_for_one_layer_trains_and_survives_saving(tmp_path):
    config = tg.ClusterConfig(number_of_clusters=4, layers={"conv": tg.ClusterConfig(assignment=below)})
    assert tg.ClusterConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    clustered = fitted(tg.cluster(network(), config))
    clustered.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), clustered.predict(X, verbose=0))
    codebooks = {layer.name: layer.chains[0].transforms[0] for layer in loaded.layers if hasattr(layer, "chains")}
    assert codebooks["conv"].assignment is below and codebooks["head"].assignment is None
    fitted(loaded)


@pytest.mark.parametrize("settings, message", [
    ({"centroids_init": lambda values, count: np.zeros(count + 1)}, r"centroids_init, its.*1 to 4.*shape \(5,\)"),
    ({"centroids_init": lambda values, count: [np.nan]}, "centroids_init, its result.*finite"),
    ({"assignment": lambda weights, centroids: weights}, "assignment, its result.*integers from 0 to 3.*dtype float32"),
    ({"assignment": lambda weights, centroids: np.full(weights.shape, 4)}, "assignment, its result.*from 0 to 3"),
], ids=["count", "finite", "dtype", "bounds"])
def test_what_a_function_of_the_users_returns_is_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        tg.cluster(network(), number_of_clusters=4, **settings)


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="assignment.*a function of weights and centroids"):
        tg.ClusterConfig(assignment="nearest")
    with pytest.raises(TypeError, match="assignment.*register_keras_serializable"):
        tg.ClusterConfig(assignment=lambda weights, centroids: weights).to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 14])
def test_quantization_keeps_a_stripped_codebook_per_channel(count):
    """With 14 clusters a channel of 18 weights has hardly any value twice."""
    config = tg.ClusterConfig(number_of_clusters=count, per_channel=True, layers={"head": None})
    stripped = tg.strip(fitted(tg.cluster(network(), config)))
    model = fitted(quantized(stripped, X, preserve_clusters=True))
    done = {s.layer: s.done for s in tg.summary(model).weights}
    assert done == {"conv": ("Codebook", "FakeQuant"), "head": ("FakeQuant",)}
    stored = next(w.values for name, w in in_int8(model).weights.items() if name.startswith("conv"))
    assert all(len(np.unique(channel)) <= count for channel in stored)


def test_zeros_alone_are_no_codebook():
    pruned = tg.strip(tg.prune(network(), schedule=tg.ConstantSparsity(0.75, begin_step=0), layers={"head": None}))
    kernel = pruned.get_layer("conv").kernel
    kernel.assign(kernel * (np.abs(kernel.numpy()) >= np.quantile(np.abs(kernel.numpy()), 0.75)))
    with pytest.raises(ValueError, match="no kernel of at most 256 values"):
        quantized(pruned, X, preserve_clusters=True)


@pytest.mark.slow
def test_zeros_are_kept_beside_clusters_where_one_kernel_has_none():
    """TFMOT then gives up the zeros of the other layers of the class."""
    model = network()
    kernel = model.get_layer("head").kernel
    kernel.assign(kernel * (np.abs(kernel.numpy()) > np.median(np.abs(kernel.numpy()))))
    stripped = tg.strip(fitted(tg.cluster(model, number_of_clusters=8)))
    result = fitted(quantized(stripped, X, preserve_sparsity=True, preserve_clusters=True))
    stored = {name.split("/")[0]: w.values for name, w in in_int8(result).weights.items()}
    assert (stored["head"] == 0).mean() >= 0.5 and (stored["conv"] == 0).mean() < 0.2
    assert all(len(np.unique(values)) <= 8 for values in stored.values())
