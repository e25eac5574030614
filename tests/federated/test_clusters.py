"""Clusters: assignments follow from weights and centroids."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.federated.clusters import Clusters
from tfgreen.transforms.compressed import chained_weights


@pytest.mark.parametrize("average", ["sum", "average"])
def test_each_weight_is_assigned_to_the_centroid_that_is_nearest_by_now(average):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(40), keras.layers.Dense(3)])
    model = tg.prune(model, layers={"dense*": tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, 0, 0))})
    model = tg.cluster(model, number_of_clusters=8, gradient_aggregation=average)
    tg.UpdateCompression(model).step()
    clusters = Clusters(model)
    names = {variable.name for variable in clusters.variables}
    assert names == ({"assignments", "sizes"} if average == "average" else {"assignments"})
    rng = np.random.default_rng(0)
    for _, _, weight in chained_weights(model):
        weight.variable.assign(rng.normal(size=weight.variable.shape))
    clusters.assign()
    for _, _, weight in chained_weights(model):
        mask, codebook = weight.chain.transforms
        masked, table = np.asarray(mask.apply(weight.value)), np.asarray(codebook.values())
        distance = np.abs(masked - table[np.asarray(codebook.assignments)])
        np.testing.assert_array_equal(distance, np.abs(masked[..., None] - table).min(-1))
        if average == "average":
            np.testing.assert_array_equal(codebook.sizes, codebook.counts())


def test_a_model_without_clusters_has_none():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    clusters = Clusters(tg.prune(model, schedule=tg.ConstantSparsity(0.5, 0, 0)))
    clusters.assign()
    assert clusters.variables == []
