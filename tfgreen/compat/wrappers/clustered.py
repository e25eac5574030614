"""ClusterWeights: a clustered layer with the attributes of TFMOT's wrapper."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping

import keras

from tfgreen.compat.algorithm import GradientAggregation, self_assigning
from tfgreen.compat.clusterable import METHODS, CentroidInitialization, ClusterableLayer
from tfgreen.compat.wrappers.wrapper import Wrapper
from tfgreen.errors import layer_subject
from tfgreen.techniques.cluster import ClusterConfig, codebooks_of
from tfgreen.transforms.base import Chain
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compress import Choice
from tfgreen.transforms.compressed import ChainedWeight
from tfgreen.typing import PlainDict


@keras.saving.register_keras_serializable(package="tfgreen")
class ClusterWeights(Wrapper):
    """A layer that is clustered as soon as it has weights. What it holds is read as in TFMOT, and not set; the names of
    weights are paths within the layer (``"kernel"``, ``"cell/recurrent_kernel"``).

    Example:
        >>> import keras, tfgreen.compat as tfmot
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> layer = tfmot.clustering.keras.cluster_weights(model, 5).get_layer("out")
        >>> layer.number_of_clusters, {name: tuple(values.shape) for name, values in layer.cluster_centroids.items()}
        (5, {'kernel': (5,)})
    """

    config: ClusterConfig | None
    prefix = "cluster_"

    def choose(self) -> Choice:
        return codebooks(self.name, self.layer, {}, self._settings)

    @property
    def _settings(self) -> ClusterConfig:
        return self.config or ClusterConfig()

    @property
    def _clustered(self) -> dict[str, tuple[ChainedWeight, Codebook]]:
        chained = [(w, item) for w in self.chained for item in w.chain.transforms if isinstance(item, Codebook)]
        return {weight.chain.weight: (weight, codebook) for weight, codebook in chained}

    @property
    def original_clusterable_weights(self) -> dict[str, keras.Variable]:
        """The weights that are clustered, as the optimizer has them; none before the layer is built."""
        return {name: weight.variable for name, (weight, _) in self._clustered.items()}

    @property
    def cluster_centroids(self) -> dict[str, keras.Variable]:
        """The values that each weight shares, without the zero that ``preserve_sparsity`` holds."""
        return {name: codebook.centroids for name, (_, codebook) in self._clustered.items()}

    @property
    def pulling_indices(self) -> dict[str, keras.Variable]:
        """For each weight the numbers of its values, as of the last call."""
        return {name: codebook.assignments for name, (_, codebook) in self._clustered.items()}

    @property
    def number_of_clusters(self) -> int:
        """How many values a weight may hold."""
        return self._settings.number_of_clusters

    @property
    def cluster_centroids_init(self) -> CentroidInitialization:
        """How they were chosen."""
        names = {method: init for init, method in METHODS.items()}
        return names[self._settings.centroids_init]  # type: ignore[index]

    @property
    def preserve_sparsity(self) -> bool:
        """Whether zeros stay zeros."""
        return bool(self._settings.preserve_sparsity)

    @property
    def cluster_per_channel(self) -> bool:
        """Whether each output channel has values of its own."""
        return self._settings.per_channel

    @property
    def cluster_gradient_aggregation(self) -> GradientAggregation:
        """How the gradient of a value is made of those of its weights."""
        return GradientAggregation.AVG if self._settings.gradient_aggregation == "average" else GradientAggregation.SUM

    def get_config(self) -> PlainDict:
        own = {} if self.config is None else {"config": self.config.to_dict()}  # no chain says how values were chosen
        return {**super().get_config(), **own}


def codebooks(path: str, layer: keras.Layer, chains: Mapping[str, Chain], config: ClusterConfig) -> Choice:
    """The codebooks of one built layer, none if it has some; they assign their weights by themselves."""
    if any(isinstance(transform, Codebook) for chain in chains.values() for transform in chain.transforms):
        return Choice()
    choice = codebooks_of(path, layer, chains, config)
    for weight, reason in choice.reasons.items() if isinstance(layer, ClusterableLayer) else ():
        warnings.warn(f"{layer_subject(path, layer)}: '{weight}' is not clustered: {reason}.", stacklevel=2)
    algorithm = getattr(layer, "get_clusterable_algorithm", lambda weight: None)
    found = {
        weight: [self_assigning(item, algorithm(weight)) for item in transforms if isinstance(item, Codebook)]
        for weight, transforms in choice.transforms.items()
    }
    return dataclasses.replace(choice, transforms=found)
