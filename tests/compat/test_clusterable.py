"""What users of clustering give."""

from __future__ import annotations

import pytest

from tfgreen.compat.clusterable import METHODS, CentroidInitialization, ClusterableLayer


def test_every_initialization_has_a_method_and_its_string_is_one_too():
    assert set(METHODS) == set(CentroidInitialization)
    assert CentroidInitialization("CentroidInitialization.LINEAR") is CentroidInitialization.LINEAR


def test_a_layer_that_says_nothing_cannot_be_made_and_one_without_algorithm_has_none():
    with pytest.raises(TypeError, match="get_clusterable_weights"):
        ClusterableLayer()

    class Says(ClusterableLayer):
        def get_clusterable_weights(self):
            return []

    assert Says().get_clusterable_algorithm("kernel") is None
