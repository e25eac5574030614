"""cluster_weights on models, layers and lists, as TFMOT's code calls it: without a callback."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen.compat as tfmot
from tfgreen.compat.algorithm import GradientAggregation
from tfgreen.transforms.compressed import compressed_layers

pytestmark = pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")
clustering = tfmot.clustering.keras
Init = clustering.CentroidInitialization
X = np.random.default_rng(0).normal(size=(32, 10)).astype("float32")
Y = X[:, :4]


def net() -> keras.Model:
    return keras.Sequential([keras.Input((10,)), layers.Dense(16, "relu", name="hidden"), layers.Dense(4, name="out")])


def values(layer: keras.Layer) -> int:
    return len(np.unique(keras.ops.convert_to_numpy(layer.kernel)))


def fitted(model: keras.Model, epochs: int = 3) -> keras.Model:
    model.compile(keras.optimizers.Adam(0.02), "mse")
    model.fit(X, Y, batch_size=16, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize("init", list(Init), ids=lambda init: init.name)
def test_every_initialization_gives_so_many_values(init):
    model = net()
    before = model.get_weights()
    clustered = clustering.cluster_weights(model, 6, init)
    assert max(values(layer) for layer in clustering.strip_clustering(clustered).layers) <= 6
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"cluster_gradient_aggregation": GradientAggregation.AVG}, {"cluster_per_channel": True}],
    ids=["default", "average", "per channel"],
)
def test_training_moves_the_values_and_the_assignments(options, tmp_path):
    clustered = clustering.cluster_weights(net(), 4, "CentroidInitialization.LINEAR", **options)
    codebook = clustered.layers[0].chains[0].transforms[0]
    first = codebook.values(), keras.ops.convert_to_numpy(codebook.assignments)
    fitted(clustered)
    assert not np.allclose(first[0], codebook.values())
    assert (first[1] != keras.ops.convert_to_numpy(codebook.assignments)).any()
    stripped = clustering.strip_clustering(clustered)
    assert values(stripped.layers[0]) <= (64 if "cluster_per_channel" in options else 4)
    kernel = keras.ops.convert_to_numpy(stripped.layers[0].kernel)
    assert max(len(np.unique(column)) for column in kernel.T) <= 4
    expected = clustered.predict(X, verbose=0)
    np.testing.assert_allclose(stripped.predict(X, verbose=0), expected, rtol=1e-5, atol=1e-6)
    clustered.save(tmp_path / "model.keras")
    with clustering.cluster_scope():
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), expected)


@pytest.mark.slow
def test_zeros_stay_zeros_through_training_and_loading(tmp_path):
    model = net()
    kernel = model.layers[0].kernel
    kernel.assign(np.where(np.random.default_rng(1).random((10, 16)) < 0.5, 0, kernel))
    zero = keras.ops.convert_to_numpy(kernel) == 0
    clustered = clustering.experimental.cluster_weights(model, 5, preserve_sparsity=True)
    fitted(clustered, epochs=1)
    clustered.save(tmp_path / "model.keras")
    loaded = fitted(keras.saving.load_model(tmp_path / "model.keras"), epochs=1)
    found = keras.ops.convert_to_numpy(clustering.strip_clustering(loaded).layers[0].kernel)
    assert (found[zero] == 0).all() and len(np.unique(found)) <= 5


def test_layers_are_clustered_as_soon_as_they_have_weights():
    dropout, dense = clustering.cluster_weights([layers.Dropout(0.999), layers.Dense(8)], 3)
    model = keras.Sequential([keras.Input((10,)), dropout, dense, layers.Dense(4)])
    assert [len(getattr(layer, "chains", ())) for layer in model.layers] == [0, 1, 0]
    trained, plain = model(X, training=True), model(X)
    assert np.abs(trained).max() != np.abs(plain).max()  # the dropout is told that the model trains
    stripped = clustering.strip_clustering(fitted(model))
    assert [values(layer) for layer in stripped.layers[1:]] == [3, 32]


def test_some_layers_of_a_cloned_model_as_in_the_guide():
    model = net()

    def cluster_out(layer: keras.Layer) -> keras.Layer:
        return clustering.cluster_weights(layer, 4) if layer.name == "out" else layer

    clone = fitted(keras.models.clone_model(model, clone_function=cluster_out), epochs=1)
    stripped = clustering.strip_clustering(clone)
    assert values(stripped.layers[0]) == 160 and values(stripped.layers[1]) == 4
    assert values(model.layers[1]) == 64


def test_what_is_clustered_already_stays_as_it_is():
    once = clustering.cluster_weights(net(), 4)
    twice = clustering.cluster_weights(once, 8)
    assert [layer.chains[0].transforms[0].number_of_clusters for _, layer in compressed_layers(twice)] == [4, 4]


def test_a_sequential_model_without_weights_is_clustered_when_it_is_built():
    clustered = clustering.cluster_weights(keras.Sequential([layers.Dense(8), layers.Dense(4)]), 3)
    clustered.build((None, 10))
    assert [values(layer) for layer in clustering.strip_clustering(clustered).layers] == [3, 3]


def test_summaries_are_written(tmp_path):
    clustered = clustering.cluster_weights(net(), 4)
    clustered.compile("sgd", "mse")
    clustered.fit(X, Y, verbose=0, callbacks=[clustering.ClusteringSummaries(log_dir=str(tmp_path / "logs"))])
    assert list((tmp_path / "logs").iterdir())


def test_summaries_take_paths_and_the_arguments_of_tensorboard_only(tmp_path):
    clustering.ClusteringSummaries(tmp_path, cluster_update_freq="batch", update_freq=3, histogram_freq=1)
    with pytest.raises(TypeError, match="'update_freg' is no argument of ClusteringSummaries.*'update_freq'"):
        clustering.ClusteringSummaries(tmp_path, update_freg="epoch")
    with pytest.raises(TypeError, match="the path of a folder, received int"):
        clustering.ClusteringSummaries(3)


@pytest.mark.parametrize("how", [*GradientAggregation, "GradientAggregation.SUM", "GradientAggregation.AVG"])
def test_gradients_are_aggregated_as_asked(how):
    layer = clustering.cluster_weights(net(), 4, cluster_gradient_aggregation=how).layers[0]
    assert layer.cluster_gradient_aggregation is GradientAggregation(how)


@pytest.mark.parametrize("how", ["AVG", "avg", 3, None, []], ids=str)
def test_another_aggregation_is_refused_with_the_choices(how):
    text = "cluster_gradient_aggregation: expected 'GradientAggregation.SUM' or 'GradientAggregation.AVG', received "
    with pytest.raises(ValueError, match=re.escape(f"{text}{how!r}.")):
        clustering.cluster_weights(net(), 4, cluster_gradient_aggregation=how)


@pytest.mark.parametrize(
    ("number", "options", "text"),
    [
        ("13", {}, "number_of_clusters must be an integer. Given: str"),
        (13.4, {}, "number_of_clusters must be an integer. Given: float"),
        (1, {}, "number_of_clusters must be greater than 1. Given: 1"),
        (2, {"preserve_sparsity": True}, "number_of_clusters must be greater than 2. Given: 2"),
        (4, {"cluster_centroids_init": "middle"}, "Cluster centroid initialization middle not supported"),
    ],
    ids=["str", "float", "one", "two with zero", "init"],
)
def test_the_arguments_are_checked_in_the_words_of_tfmot(number, options, text):
    with pytest.raises(ValueError, match=text):
        clustering.cluster_weights(layers.Dense(4), number, **options)


@pytest.mark.parametrize("value", [None, object(), {"this": "is no layer"}], ids=["None", "object", "dict"])
def test_nothing_else_can_be_clustered(value):
    with pytest.raises(ValueError, match="can only cluster an object of the following types"):
        clustering.cluster_weights(value, 4)
    with pytest.raises(ValueError, match="Expected model to be a `keras.Model` instance but got: "):
        clustering.strip_clustering(value)


class WithBias(layers.Dense, clustering.ClusterableLayer):
    def get_clusterable_weights(self):
        return [("kernel", self.kernel), ("bias", self.bias)]


def test_a_weight_that_is_asked_for_and_not_clustered_is_told():
    with pytest.warns(UserWarning, match=r"\(WithBias\): 'bias' is not clustered: "):
        clustering.cluster_weights(keras.Sequential([keras.Input((10,)), WithBias(8)]), 4)


def test_misspelt_arguments_and_the_module_of_the_tutorial():
    from tfgreen.compat.clustering.keras.experimental import cluster

    assert cluster.cluster_weights is clustering.cluster_weights
    for to_cluster in (net(), layers.Dense(3)):
        with pytest.raises(TypeError, match="'preserve_sparcity' is no argument of cluster_weights. Did you mean"):
            clustering.cluster_weights(to_cluster, 4, preserve_sparcity=True)
    with pytest.raises(TypeError, match="Did you mean 'pruning_schedule'"):
        tfmot.sparsity.keras.prune_low_magnitude(net(), pruning_shedule=3)
    assert clustering.cluster_weights(layers.Dense(3), 4, name="mine").name == "mine"


def test_a_model_without_weights_or_values_to_share_is_not_passed_over():
    class Unbuilt(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(4)

        def call(self, x):
            return self.dense(x)

    model = Unbuilt()
    with pytest.warns(UserWarning, match="despite not being actually built"):
        model.build((1, 5))
    with pytest.raises(ValueError, match="can only cluster an object of the following types"):
        clustering.cluster_weights(model, 4)
    norm = keras.Sequential([keras.Input((4,)), layers.BatchNormalization()])
    with pytest.warns(UserWarning, match="has no weight that is clustered") as caught:
        clustering.cluster_weights(norm, 4)
    assert caught[0].filename == __file__
