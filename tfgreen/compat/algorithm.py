"""ClusteringAlgorithm, which users may replace, and SelfAssigning, the codebook that runs it in every call.

TFMOT gives each weight its centroid anew whenever the layer is called, so that training takes no callback. So does this
codebook, inside the graph; the one of ``tg.cluster`` does it between batches, which is faster.
"""

from __future__ import annotations

import enum
from typing import NoReturn

import keras
import tensorflow as tf

from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.model.batch_norm import fuse_training
from tfgreen.model.rebuild import rebuild
from tfgreen.transforms.base import Chain
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compressed import Compressed, has_transform, unproject
from tfgreen.transforms.exporting import is_exporting
from tfgreen.typing import PlainDict, Tensor


class GradientAggregation(str, enum.Enum):
    """Whether the gradient of a centroid is the sum or the average of those of its weights."""

    SUM = "GradientAggregation.SUM"
    AVG = "GradientAggregation.AVG"

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        expected = " or ".join(f"'{member.value}'" for member in cls)
        raise invalid_value("cluster_gradient_aggregation", expected=expected, received=repr(value))


class ClusteringAlgorithm:
    """Which centroid each weight takes. A subclass overrides ``get_pulling_indices``, ``get_clustered_weight`` or both.

    Args:
        clusters_centroids: A tensor or variable of shape (clusters,).
        cluster_gradient_aggregation: How the gradient of a centroid is made of those of its weights:
            ``"GradientAggregation.SUM"`` or ``"GradientAggregation.AVG"``.
        data_format: That of the layer.

    Example:
        >>> import tensorflow as tf
        >>> algorithm = ClusteringAlgorithm(tf.Variable([0.0, 1.0]))
        >>> algorithm.get_pulling_indices(tf.constant([0.2, 0.9])).numpy().tolist()
        [0, 1]
    """

    def __init__(
        self,
        clusters_centroids: Tensor,
        cluster_gradient_aggregation: GradientAggregation | str = GradientAggregation.SUM,
        data_format: str | None = None,
    ) -> None:
        if not tf.is_tensor(clusters_centroids):
            raise InvalidValueError("clusters_centroids should be a tf.Variable.")
        self.cluster_centroids = clusters_centroids
        self.cluster_gradient_aggregation = GradientAggregation(cluster_gradient_aggregation)
        self.data_format = data_format

    def get_config(self) -> PlainDict:
        """Nothing: a class without this method cannot be registered with Keras."""
        return {}

    def get_pulling_indices(self, weight: Tensor, centroids: Tensor | None = None) -> Tensor:
        """The number of the centroid of each weight, an integer tensor of the shape of ``weight``."""
        table = self.cluster_centroids if centroids is None else centroids
        return nearest_centroids(weight, tf.convert_to_tensor(table))

    def get_clustered_weight(self, pulling_indices: Tensor, original_weight: Tensor) -> Tensor:
        """The weight made of centroids; its gradient passes to both, straight through to the original weight."""
        table = tf.convert_to_tensor(self.cluster_centroids)
        if self.cluster_gradient_aggregation == GradientAggregation.AVG:
            sizes = tf.math.bincount(tf.cast(pulling_indices, "int32"), minlength=tf.size(table), dtype=table.dtype)
            share = 1.0 / tf.maximum(sizes, 1.0)
            table = table * share + tf.stop_gradient(table * (1.0 - share))
        return tf.gather(table, pulling_indices) + (original_weight - tf.stop_gradient(original_weight))


def nearest_centroids(weight: Tensor, table: Tensor) -> Tensor:
    """The number, int32, of the nearest centroid of each weight, by bisection among the midpoints.

    ``table`` has the shape (clusters,), or (channels, clusters) for a weight of shape (channels, n).
    """
    order = tf.argsort(table, axis=-1)
    ascending = tf.gather(table, order, axis=-1, batch_dims=len(table.shape) - 1)
    midpoints = (ascending[..., 1:] + ascending[..., :-1]) / 2
    flat = weight if len(table.shape) == 2 else tf.reshape(weight, [-1])
    ranks = tf.searchsorted(midpoints, flat)
    return tf.reshape(tf.gather(order, ranks, axis=-1, batch_dims=len(table.shape) - 1), tf.shape(weight))


@keras.saving.register_keras_serializable(package="tfgreen")
class SelfAssigning(Codebook):
    """A codebook that assigns the weights in every call of the layer, by an algorithm of the user's or the nearest.

    ``algorithm`` is a subclass of :class:`ClusteringAlgorithm`; registered with Keras, it can be loaded.
    """

    scheduled = False
    algorithm: type[ClusteringAlgorithm] | None = None

    def apply(self, weight: Tensor) -> Tensor:
        if is_exporting():
            return super().apply(weight)
        table = self._table()
        if self.algorithm is None:
            indices = self._nearest(tf.convert_to_tensor(weight), table)
        else:
            average = self.gradient_aggregation == "average"
            how = GradientAggregation.AVG if average else GradientAggregation.SUM
            chosen = self.algorithm(self.centroids.value if not self.preserve_sparsity else table, how)
            indices = chosen.get_pulling_indices(weight)
        self.assignments.assign(tf.cast(tf.stop_gradient(indices), self.assignments.dtype))
        if self.gradient_aggregation == "average":
            self.sizes.assign(self._sizes(tf.cast(indices, "int32")))
        if self.algorithm is not None and "get_clustered_weight" in _overridden(self.algorithm):
            return chosen.get_clustered_weight(indices, weight)
        return super().apply(weight)

    def _nearest(self, weight: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        if not self.channel_axes:
            return nearest_centroids(weight, table)
        places = self._channels_last
        moved = tf.transpose(weight, places)
        rows = tf.transpose(tf.reshape(moved, [-1, self._channels]))
        numbers = tf.transpose(nearest_centroids(rows, tf.transpose(tf.reshape(table, [-1, self._channels]))))
        back = [places.index(axis) for axis in range(len(places))]
        return tf.transpose(tf.reshape(numbers, [weight.shape[axis] for axis in places]), back)

    def _sizes(self, numbers: tf.Tensor) -> tf.Tensor:
        places = tf.reshape(numbers * self._channels + self._column, [-1])
        counts = tf.math.bincount(places, minlength=self.number_of_clusters * self._channels)
        return tf.reshape(tf.cast(counts, self.sizes.dtype), self.sizes.shape)

    def get_config(self) -> PlainDict:
        name = None if self.algorithm is None else keras.saving.get_registered_name(self.algorithm)
        return {**super().get_config(), "algorithm": name}

    @classmethod
    def from_config(cls, config: PlainDict) -> SelfAssigning:
        config = dict(config)
        name = config.pop("algorithm", None)
        codebook = super().from_config(config)
        if name is not None:
            codebook.algorithm = keras.saving.get_registered_object(name)
            if codebook.algorithm is None:
                expected = "a ClusteringAlgorithm that Keras knows"
                fix = "Register it: @keras.saving.register_keras_serializable(), or pass custom_objects."
                raise invalid_value("the clustering algorithm", expected=expected, received=f"'{name}'", fix=fix)
        return codebook


def _overridden(algorithm: type[ClusteringAlgorithm]) -> set[str]:
    """The methods that a subclass defines itself."""
    own = algorithm.__mro__[: algorithm.__mro__.index(ClusteringAlgorithm)]
    return {name for cls in own for name in vars(cls)}


def self_assigning(codebook: Codebook, algorithm: type[ClusteringAlgorithm] | None = None) -> SelfAssigning:
    """A codebook of the same values as one that is built."""
    config = {**codebook.get_config(), "name": None}
    result = SelfAssigning.from_config(config)
    result.algorithm = algorithm
    result.build(tuple(codebook.assignments.shape))
    result.built = True
    for name in ("centroids", "assignments", "sizes"):
        if hasattr(codebook, name):
            getattr(result, name).assign(getattr(codebook, name))
    return result


def without_callback(model: keras.Model) -> keras.Model:
    """A copy of a model whose codebooks assign their weights by themselves; the model itself if it has none."""
    if not has_transform(model, Codebook):
        return model

    def swap(path: str, layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, Compressed):
            return layer
        for variable in layer.layer.variables:
            unproject(variable)
        chains = [
            Chain(chain.weight, [self_assigning(t) if type(t) is Codebook else t for t in chain.transforms])
            for chain in layer.chains
        ]
        result = Compressed(layer.layer, chains, layer.activations, layer.reasons)
        result.activity_regularizer = layer.activity_regularizer
        return result

    result: keras.Model = rebuild(model, swap)
    fuse_training(result)
    return result
