"""A clustered layer has what code reads off TFMOT's wrapper."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen import compat as tfmot
from tfgreen.compat.algorithm import GradientAggregation
from tfgreen.compat.wrappers.clustered import ClusterWeights

pytestmark = pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")
clustering = tfmot.clustering.keras
Init = clustering.CentroidInitialization
X = np.random.default_rng(0).normal(size=(32, 10)).astype("float32")


def test_values_numbers_and_weights_move_in_training():
    model = keras.Sequential([keras.Input((10,)), layers.Dense(4, name="out")])
    clustered = clustering.cluster_weights(model, 5, Init.LINEAR)
    layer = clustered.layers[0]
    assert isinstance(layer, ClusterWeights) and layer.name == "out"
    weights, values = layer.original_clusterable_weights, layer.cluster_centroids
    assert weights == {"kernel": layer.layer.kernel} and tuple(values["kernel"].shape) == (5,)
    before = [keras.ops.convert_to_numpy(item["kernel"]) for item in (weights, values)]
    clustered.compile(keras.optimizers.SGD(0.1), "mse")
    clustered.fit(X, X[:, :4], verbose=0)
    for old, item in zip(before, (weights, values)):
        assert not np.array_equal(old, keras.ops.convert_to_numpy(item["kernel"]))
    values["kernel"].assign([0.0, 9.0, 9.0, 9.0, 9.0])
    clustered(X)
    assert (keras.ops.convert_to_numpy(layer.pulling_indices["kernel"]) == 0).all()


def test_settings_are_those_given_after_loading_too(tmp_path):
    given = {
        "preserve_sparsity": True, "cluster_per_channel": True,
        "cluster_gradient_aggregation": GradientAggregation.AVG,
    }
    model = keras.Sequential([
        keras.Input((10,)), clustering.cluster_weights(layers.Dense(4, name="one"), 5, Init.LINEAR, **given),
        clustering.cluster_weights(layers.Dense(4, name="two"), 6),
    ])
    model.save(tmp_path / "model.keras")
    one, two = keras.saving.load_model(tmp_path / "model.keras").layers
    assert (one.number_of_clusters, one.cluster_centroids_init, two.number_of_clusters) == (5, Init.LINEAR, 6)
    assert one.preserve_sparsity and one.cluster_per_channel and not two.preserve_sparsity
    assert one.cluster_gradient_aggregation == GradientAggregation.AVG
    assert two.cluster_gradient_aggregation == GradientAggregation.SUM and not two.cluster_per_channel
    assert two.cluster_centroids_init == Init.KMEANS_PLUS_PLUS
