"""What users of clustering give: how values are chosen, and layers that say which of their weights are clustered."""

from __future__ import annotations

import abc
import enum

import keras

from tfgreen.compat.algorithm import ClusteringAlgorithm
from tfgreen.transforms.kmeans import Initialization


class CentroidInitialization(str, enum.Enum):
    """How the values that weights share are chosen."""

    LINEAR = "CentroidInitialization.LINEAR"
    RANDOM = "CentroidInitialization.RANDOM"
    DENSITY_BASED = "CentroidInitialization.DENSITY_BASED"
    KMEANS_PLUS_PLUS = "CentroidInitialization.KMEANS_PLUS_PLUS"


METHODS: dict[CentroidInitialization, Initialization] = {
    CentroidInitialization.LINEAR: "linear", CentroidInitialization.RANDOM: "random",
    CentroidInitialization.DENSITY_BASED: "density_based", CentroidInitialization.KMEANS_PLUS_PLUS: "kmeans_plus_plus",
}


class ClusterableLayer(abc.ABC):
    """Mark of a layer that says itself which of its weights are clustered, and perhaps how."""

    @abc.abstractmethod
    def get_clusterable_weights(self) -> list[tuple[str, keras.Variable]]:
        """The weights to cluster with a name for each; the layer is built."""

    def get_clusterable_algorithm(self, weight_name: str) -> type[ClusteringAlgorithm] | None:
        """The subclass of :class:`ClusteringAlgorithm` for the weight of a name; None for the nearest value."""
        return None
