"""The batches of a training: how many, and in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfgreen.recipes.data.split import Split
from tfgreen.recipes.recipe.step_settings import Augment
from tfgreen.recipes.run.steps.augment import augmented


def batches_of(split: Split, batch_size: int) -> int:
    """How many batches a pass over a split has; a dataset that does not say is counted."""
    if split.count is not None and (split.in_files or not split.in_batches):
        return -(-split.count // batch_size)
    known = int(split.x.cardinality())
    return known if known >= 0 else sum(1 for _ in split.x)


def is_ordered(split: Split) -> bool:
    """Whether :func:`epochs_of` decides about the order: the samples are arrays, not files or the user's batches."""
    return not split.in_batches


def epochs_of(
    split: Split, batch_size: int, epochs: range, seed: int, *, shuffle: bool = True, augment: tuple[Augment, ...] = ()
) -> tf.data.Dataset:
    """Batches of several epochs in a row, for ``fit`` with :func:`batches_of` as ``steps_per_epoch``.

    Of arrays, the order and the augmentation of an epoch depend on nothing but the seed and its number, so that a
    training that goes on in another process sees what it would have seen. Files and datasets come in their own order.
    """
    if not is_ordered(split):
        batches = split.fit_arguments(batch_size, shuffle)["x"].repeat(len(epochs))
        if augment:
            batches = batches.enumerate().map(lambda number, batch: _augmented(batch, augment, (seed, number)))
        return batches.prefetch(tf.data.AUTOTUNE)
    arrays = split.validation_data()
    tensors = tf.nest.map_structure(tf.convert_to_tensor, _as_tuples(arrays))
    count, steps = split.count or 0, batches_of(split, batch_size)

    def epoch_of(number: tf.Tensor) -> tf.data.Dataset:
        order = tf.range(count)
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, seed=tf.stack([seed, number]))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    def batch_of(number: tf.Tensor, rows: tf.Tensor) -> Any:
        batch = tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), tensors)
        return _augmented(batch, augment, (seed, number)) if augment else batch

    rows = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(epoch_of)
    return rows.enumerate(epochs.start * steps).map(batch_of, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _augmented(batch: Any, augment: tuple[Augment, ...], seed: tuple[Any, Any]) -> Any:
    """A batch whose images are changed at random."""
    numbers = tf.stack([tf.cast(number, tf.int64) for number in seed])
    return (tf.nest.map_structure(lambda image: augmented(image, augment, numbers), batch[0]), *batch[1:])


def _as_tuples(arrays: Any) -> Any:
    """Lists as tuples, which tf.data takes for a structure and not for one tensor."""
    if isinstance(arrays, dict):
        return {name: _as_tuples(part) for name, part in arrays.items()}
    if isinstance(arrays, (list, tuple)):
        return tuple(_as_tuples(part) for part in arrays)
    return np.asarray(arrays)
