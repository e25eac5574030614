"""Clustering algorithms of the user's own act; the codebook assigns weights in every call."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tfgreen.compat import clustering
from tfgreen.compat.algorithm import GradientAggregation, SelfAssigning, nearest_centroids, without_callback

pytestmark = pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")
Algorithm, Layer = clustering.keras.ClusteringAlgorithm, clustering.keras.ClusterableLayer


@keras.saving.register_keras_serializable(package="test_algorithm")
class Farthest(Algorithm):
    """Written as those of TFMOT's tests are."""

    def get_pulling_indices(self, weight):
        return tf.argmax(tf.abs(tf.expand_dims(weight, -1) - self.cluster_centroids), axis=-1)


@keras.saving.register_keras_serializable(package="test_algorithm")
class Doubled(Algorithm):
    def get_clustered_weight(self, pulling_indices, original_weight):
        return 2 * super().get_clustered_weight(pulling_indices, original_weight)


@keras.saving.register_keras_serializable(package="test_algorithm")
class Mine(layers.Layer, Layer):
    algorithm = Farthest

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], 3), initializer="random_normal", name="w")
        self.b = self.add_weight(shape=(3,), initializer="random_normal", name="b")

    def call(self, inputs):
        return tf.matmul(inputs, self.w) + self.b

    def get_clusterable_weights(self):
        return [("w", self.w)]

    def get_clusterable_algorithm(self, weight_name):
        return self.algorithm if weight_name == "w" else None


def test_nearest_is_that_of_numpy_also_by_channel():
    rng = np.random.default_rng(0)
    weight, table = rng.normal(size=(5, 7)).astype("float32"), rng.normal(size=(4,)).astype("float32")
    expected = np.abs(weight[..., None] - table).argmin(-1)
    np.testing.assert_array_equal(nearest_centroids(tf.constant(weight), tf.constant(table)), expected)
    tables = rng.normal(size=(5, 4)).astype("float32")
    expected = np.abs(weight[..., None] - tables[:, None]).argmin(-1)
    np.testing.assert_array_equal(nearest_centroids(tf.constant(weight), tf.constant(tables)), expected)


@pytest.mark.parametrize("how", list(GradientAggregation), ids=lambda how: how.name)
def test_the_gradient_goes_to_the_weights_and_their_centroids(how):
    weight, table = tf.Variable([0.1, 0.2, 0.9]), tf.Variable([0.0, 1.0, 5.0])
    algorithm = Algorithm(table, how)
    with tf.GradientTape() as tape:
        made = algorithm.get_clustered_weight(algorithm.get_pulling_indices(weight), weight)
        loss = tf.reduce_sum(made * [1.0, 2.0, 4.0])
    to_weight, to_table = tape.gradient(loss, [weight, table])
    np.testing.assert_allclose(made, [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(to_weight, [1, 2, 4])
    np.testing.assert_allclose(tf.convert_to_tensor(to_table), [3 if how is GradientAggregation.SUM else 1.5, 4, 0])
    with pytest.raises(ValueError, match="clusters_centroids should be a tf.Variable"):
        Algorithm([1, 2, 3])


def test_the_aggregation_may_be_its_text_and_nothing_else():
    assert Algorithm(tf.constant([0.0]), "GradientAggregation.AVG").cluster_gradient_aggregation.name == "AVG"
    with pytest.raises(ValueError, match="expected 'GradientAggregation.SUM' or 'GradientAggregation.AVG'"):
        Algorithm(tf.constant([0.0]), "AVG")


def test_an_algorithm_of_the_users_own_assigns_the_weights_and_is_loaded(tmp_path):
    model = keras.Sequential([keras.Input((8,)), Mine()])
    clustered = clustering.keras.cluster_weights(model, 3)
    clustered.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8, 8)).astype("float32")
    clustered.fit(x, x[:, :3], verbose=0)
    clustered(x)
    codebook, weight = clustered.layers[0].chains[0].transforms[0], clustered.layers[0].layer.w
    expected = np.abs(keras.ops.convert_to_numpy(weight)[..., None] - codebook.values()).argmax(-1)
    np.testing.assert_array_equal(codebook.assignments, expected)
    clustered.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].chains[0].transforms[0].algorithm is Farthest
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), clustered.predict(x, verbose=0))


def test_an_algorithm_may_make_the_weight_too(monkeypatch):
    monkeypatch.setattr(Mine, "algorithm", Doubled)
    model = keras.Sequential([keras.Input((8,)), clustering.keras.cluster_weights(Mine(), 3)])
    codebook = model.layers[0].chains[0].transforms[0]
    found = np.unique(clustering.keras.strip_clustering(model).layers[0].w)
    np.testing.assert_allclose(found, np.sort(2 * codebook.values()), rtol=1e-5)


def test_an_algorithm_that_keras_does_not_know_is_named():
    config = {**SelfAssigning(4).get_config(), "algorithm": "Unknown"}
    with pytest.raises(ValueError, match="'Unknown'.*Register it"):
        SelfAssigning.from_config(config)


@pytest.mark.parametrize("axes", [(), (-1,), (-2, -1)], ids=["tensor", "channels", "two axes"])
def test_assignments_follow_the_weights_in_every_call(axes):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 3, 2, 4)).astype("float32")
    codebook = SelfAssigning(3, channel_axes=axes, gradient_aggregation="average")
    codebook.build(weight.shape)
    codebook.initialize(weight, "linear")
    made = np.asarray(codebook.apply(tf.constant(-weight)))
    tables = codebook.values().reshape(3, -1)
    columns = (-weight).reshape(-1, tables.shape[1])
    expected = np.take_along_axis(tables, np.abs(columns[:, None] - tables).argmin(1), axis=0)
    np.testing.assert_allclose(made.reshape(columns.shape), expected, rtol=1e-6)
    np.testing.assert_array_equal(codebook.sizes, codebook.counts())


def test_a_model_of_tg_cluster_can_do_without_its_callback():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16), layers.Dense(4)])
    clustered = tg.cluster(model, number_of_clusters=4)
    free = without_callback(clustered)
    x = np.random.default_rng(0).normal(size=(8, 8)).astype("float32")
    np.testing.assert_allclose(free.predict(x, verbose=0), clustered.predict(x, verbose=0), atol=1e-6)
    free.compile("sgd", "mse")
    free.fit(x, x[:, :4], verbose=0)  # without a warning
    assert without_callback(model) is model
