"""Codebook: weights that share a few values, which are trained.

The values, called centroids, are trained by the sum or the average of the gradients of the weights that share them. The
stored weight is trained too, as if its gradient passed through its centroid (straight-through), and every ``frequency``
steps it is assigned to the centroid that is nearest by then. That gradient sees its own effect only at the next
assignment, so ``frequency`` must be small: on ResNet-8 with 16 clusters an assignment every 3 steps ended 0.4 points
above one in every step, every 10 steps 2 points below, and every 50 steps diverged. Training the centroids alone is
stable at any frequency, but ended about a point lower.

References: S. Han et al., "Deep Compression", 2016, arXiv:1510.00149; Y. Bengio et al., "Estimating or Propagating
Gradients Through Stochastic Neurons", 2013, arXiv:1308.3432 (straight-through).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from tfgreen.errors import invalid_state, invalid_value
from tfgreen.transforms.base import TensorTransform
from tfgreen.transforms.exporting import is_exporting
from tfgreen.transforms.kmeans import Initializer, index_dtype, initial_centroids, nearest, runs
from tfgreen.transforms.selection import check_finite
from tfgreen.typing import PlainDict, Tensor

Aggregation = Literal["sum", "average"]
# (weights of shape (n,), centroids of shape (clusters,)) -> the number of the centroid of each weight, of shape (n,).
Assignment: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]

_LARGE = 1 << 15  # weights from which on XLA, 4 to 10 times as fast, is worth the compilation
_COMPARED = 64  # centroids up to which XLA compares each weight with all midpoints


@keras.saving.register_keras_serializable(package="tfgreen")
class Codebook(TensorTransform):
    """Replace each weight by its centroid: ``w' = centroids[assignments]``. Settings: :class:`tfgreen.ClusterConfig`.

    Each index along ``channel_axes`` has ``number_of_clusters`` centroids of its own. These are trained, of shape
    (clusters,) or (clusters, channels); with ``preserve_sparsity`` one row less, because the zero, number 0, is no
    variable. Assignments take one byte per weight up to 256 centroids, and two up to 65,536.
    """

    scheduled = True
    order = 1
    _settings = ("number_of_clusters", "preserve_sparsity", "channel_axes", "frequency", "gradient_aggregation", "note")

    def __init__(
        self,
        number_of_clusters: int,
        preserve_sparsity: bool = False,
        channel_axes: Sequence[int] = (),
        frequency: int = 100,
        gradient_aggregation: Aggregation = "sum",
        note: str = "",
        assignment: Assignment | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.assignment = assignment
        self.number_of_clusters = number_of_clusters
        self.preserve_sparsity = preserve_sparsity
        self.channel_axes = tuple(channel_axes)
        self.frequency = frequency
        self.gradient_aggregation = gradient_aggregation
        self.note = note

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        axes = sorted(axis % len(shape) for axis in self.channel_axes)
        self._channels = math.prod(shape[axis] for axis in axes)
        self._channels_last = [axis for axis in range(len(shape)) if axis not in axes] + axes
        # For each channel its column in the table of centroids, in a shape that broadcasts against the weight.
        column_shape = [size if axis in axes else 1 for axis, size in enumerate(shape)]
        self._column = np.arange(self._channels, dtype=np.int32).reshape(column_shape)
        trained = self.number_of_clusters - self.preserve_sparsity
        columns = (self._channels,) if axes else ()
        dtype = index_dtype(self.number_of_clusters).name
        # The effective weight is looked up in the dtype it is stored in, whatever the layer computes in.
        values = {"initializer": "zeros", "autocast": False}
        self.centroids = self.add_weight(shape=(trained, *columns), **values, name="centroids")
        self.assignments = self.add_weight(
            shape=shape, dtype=dtype, initializer="zeros", trainable=False, name="assignments"
        )
        if self.gradient_aggregation == "average":
            shape = (self.number_of_clusters, *columns)
            self.sizes = self.add_weight(shape=shape, **values, trainable=False, name="sizes")

    def initialize(self, weight: np.ndarray, method: Initializer, seed: int = 0) -> None:
        """Set centroids and assignments from a weight; see :func:`tfgreen.transforms.kmeans.initial_centroids`."""
        count, zero = self.number_of_clusters, self.preserve_sparsity
        columns = self._columns(weight)
        table = np.zeros((count - zero, columns.shape[1]), weight.dtype)
        for channel in range(columns.shape[1]):
            found = initial_centroids(columns[:, channel], count, method, seed, zero)
            found = found[found != 0] if zero else found
            table[: len(found), channel] = found
            table[len(found) :, channel] = found[-1] if len(found) else 0  # a channel with fewer repeats its last one
        self.centroids.assign(table.reshape(self.centroids.shape))
        self.assign(weight)

    def apply(self, weight: Tensor) -> Tensor:
        if is_exporting():
            # TensorFlow's converter folds no look-up that makes four bytes of one, and then refuses the fake-quant.
            with tf.init_scope():
                places = keras.ops.convert_to_numpy(self.assignments).astype(np.int64) * self._channels + self._column
                return tf.constant(self.values().reshape(-1)[places], weight.dtype)
        assignments = tf.convert_to_tensor(self.assignments.value)
        flat = tf.reshape(tf.cast(self._table(), weight.dtype), [-1])
        average = self.gradient_aggregation == "average"
        sizes = tf.reshape(tf.convert_to_tensor(self.sizes.value), [-1]) if average else None
        run = _compiled if math.prod(assignments.shape) >= _LARGE else lambda function: function

        @tf.custom_gradient
        def look_up(weight: tf.Tensor, flat: tf.Tensor) -> tuple[tf.Tensor, Callable]:
            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                shared = run(_sum_by_centroid)(upstream, assignments, self._column, flat)
                if sizes is not None:
                    shared /= tf.cast(tf.maximum(sizes, 1.0), shared.dtype)
                if self.preserve_sparsity:  # a weight of zero does not move, and so stays at the centroid zero
                    upstream = upstream * tf.cast(weight != 0, upstream.dtype)
                return upstream, shared

            return run(_take)(flat, assignments, self._column), gradient

        return look_up(weight, flat)

    @property
    def keeps_zeros(self) -> bool:  # type: ignore[override]
        return self.preserve_sparsity

    def due(self, last_step: int, step: int) -> bool:
        return step // self.frequency > last_step // self.frequency

    @classmethod
    def update_together(
        cls, transforms: Sequence[TensorTransform], weights: Sequence[Tensor], names: Sequence[str], step: int
    ) -> None:
        """Assign each weight to the nearest centroid; raise if they diverged or all are nearest to one."""
        for codebook, weight, name in zip(transforms, weights, names):
            codebook._refresh(weight, name)

    @property
    def assigned(self) -> list[keras.Variable]:
        """The variables that :meth:`assign` sets."""
        return [self.assignments, *([self.sizes] if self.gradient_aggregation == "average" else [])]

    def _refresh(self, weight: Tensor, name: str) -> None:
        weight, table = tf.convert_to_tensor(weight), self.values()
        for values in (_view(weight), table):
            check_finite(values, name, "The training diverged: lower the learning rate.")
        counts = self._assign(weight, table)
        if (counts.max(axis=0) == counts.sum(axis=0)).all():
            fix = "The layer is dead: lower the learning rate, or leave it out with layers={...: None}."
            raise invalid_state(f"{name}: all weights have fallen to one centroid.", fix)

    def assign(self, weight: Tensor) -> None:
        """Give each weight the number of its nearest centroid."""
        self._assign(weight, self.values())

    def _assign(self, weight: Tensor, table: np.ndarray) -> np.ndarray:
        """Give each weight the number of its nearest centroid; return :meth:`counts`."""
        array = _view(weight)
        if self.assignment is not None:
            numbers = self._assign_by(self.assignment, array, table)
        elif self.channel_axes:
            moved = [array.shape[axis] for axis in self._channels_last]
            numbers = nearest(self._columns(array), table).reshape(moved).transpose(np.argsort(self._channels_last))
        elif array.size >= _LARGE and self.number_of_clusters <= _COMPARED:
            order, midpoints = runs(table.astype(array.dtype, copy=False))
            numbers = _compiled(_nearest)(weight, order, midpoints)
        else:
            numbers = nearest(array, table)
        # TensorFlow's assign takes half as long as Keras's.
        self.assignments.value.assign(numbers, read_value=False)
        counts = self._count(_view(numbers) if tf.is_tensor(numbers) else numbers)
        if self.gradient_aggregation == "average":
            self.sizes.value.assign(counts.astype(self.sizes.dtype), read_value=False)
        return counts

    def _assign_by(self, function: Assignment, array: np.ndarray, table: np.ndarray) -> np.ndarray:
        """The number of the centroid of each weight, as a function of the user's has it; zeros stay zeros."""
        columns, tables = self._columns(array), table.reshape(len(table), -1)
        numbers = np.empty(columns.shape, index_dtype(self.number_of_clusters))
        for channel in range(columns.shape[1]):
            found = np.asarray(function(columns[:, channel], tables[:, channel]))
            whole = found.shape == columns[:, channel].shape and found.dtype.kind in "iu"
            if not whole or found.min() < 0 or found.max() >= len(tables):
                expected = f"{len(columns)} integers from 0 to {len(tables) - 1}, the centroid of each weight"
                received = f"an array of shape {found.shape} and dtype {found.dtype}"
                raise invalid_value("assignment, its result", expected=expected, received=received)
            numbers[:, channel] = found
        if self.preserve_sparsity:
            numbers[columns == 0] = 0
        moved = [array.shape[axis] for axis in self._channels_last]
        return numbers.reshape(moved).transpose(np.argsort(self._channels_last))

    def counts(self) -> np.ndarray:
        """How many weights each centroid stands for: int64 of shape (clusters,) or (clusters, channels)."""
        return self._count(_view(self.assignments.value))

    def _count(self, numbers: np.ndarray) -> np.ndarray:
        if not self.channel_axes:
            return _count(numbers.reshape(-1), self.number_of_clusters)
        columns = self._columns(numbers)
        return np.stack([np.count_nonzero(columns == number, axis=0) for number in range(self.number_of_clusters)])

    def values(self) -> np.ndarray:
        """The centroids, the zero included, in the shape of :meth:`counts`."""
        return keras.ops.convert_to_numpy(self._table())

    def _table(self) -> tf.Tensor:
        centroids = tf.convert_to_tensor(self.centroids.value)
        return tf.concat([tf.zeros_like(centroids[:1]), centroids], axis=0) if self.preserve_sparsity else centroids

    def _columns(self, weight: np.ndarray) -> np.ndarray:
        """The weight as a matrix with a column per channel."""
        return weight.transpose(self._channels_last).reshape(-1, self._channels)

    def get_config(self) -> PlainDict:
        return {**super().get_config(), "assignment": keras.saving.serialize_keras_object(self.assignment)}

    @classmethod
    def from_config(cls, config: PlainDict) -> Codebook:
        assignment = keras.saving.deserialize_keras_object(config.get("assignment"))
        return cls(**{**config, "assignment": assignment})


def _view(tensor: Tensor) -> np.ndarray:
    """A tensor or variable as a read-only array over the same memory: the weights are large and read often."""
    return np.asarray(tf.convert_to_tensor(tensor))


def _count(numbers: np.ndarray, most: int) -> np.ndarray:
    """How often each number below ``most`` occurs in a vector of unsigned integers."""
    if numbers.dtype != np.uint8 or numbers.size < _LARGE:
        return np.bincount(numbers, minlength=most)
    # Two at a time, which takes half as long.
    even = numbers.size // 2 * 2
    pairs = np.bincount(numbers[:even].view(np.uint16), minlength=1 << 16).reshape(256, 256)
    return (pairs.sum(axis=0) + pairs.sum(axis=1) + np.bincount(numbers[even:], minlength=256))[:most]


@functools.cache
def _compiled(function: Callable) -> Callable:
    return tf.function(function, jit_compile=True, autograph=False)


def _take(flat: tf.Tensor, assignments: tf.Tensor, column: np.ndarray) -> tf.Tensor:
    return tf.gather(flat, _places(assignments, column))


def _sum_by_centroid(upstream: tf.Tensor, assignments: tf.Tensor, column: np.ndarray, flat: tf.Tensor) -> tf.Tensor:
    return tf.math.unsorted_segment_sum(upstream, _places(assignments, column), flat.shape[0])


def _nearest(weight: tf.Tensor, order: np.ndarray, midpoints: np.ndarray) -> tf.Tensor:
    """As :func:`tfgreen.transforms.kmeans.nearest`, from the runs of the centroids."""
    numbers = tf.fill(weight.shape, order[0])
    for index in range(midpoints.shape[0]):
        numbers = tf.where(weight > midpoints[index], order[index + 1], numbers)
    return numbers


def _places(assignments: tf.Tensor, column: np.ndarray) -> tf.Tensor:
    """Where each weight's centroid is in the flattened table."""
    numbers = tf.cast(assignments, tf.int32)
    channels = math.prod(column.shape)
    return numbers if channels == 1 else numbers * channels + column
