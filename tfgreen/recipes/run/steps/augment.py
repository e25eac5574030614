"""Images changed at random in ways that leave their class as it is."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfgreen.errors import invalid_value
from tfgreen.recipes.recipe.step_settings import AUGMENTS, Augment
from tfgreen.typing import Arrays

_SHARE = 8  # a shift goes up to the eighth part of a side
_SAME = 0.8  # of the samples keep their class: mirrored digits are other digits, mirrored cats are cats


def harmless(model: keras.Model, images: Arrays) -> tuple[Augment, ...]:
    """The changes that leave a classifier's answers as they are for most images; none of other models and inputs."""
    if not isinstance(images, np.ndarray) or images.ndim != 4 or images.dtype.kind not in "fiu":
        return ()
    before = model.predict_on_batch(images)
    if not isinstance(before, np.ndarray) or before.ndim != 2 or before.shape[1] < 2:
        return ()
    found: list[Augment] = []
    for change in AUGMENTS:
        after = model.predict_on_batch(augmented(tf.convert_to_tensor(images), [change], tf.constant([0, 0])))
        if (after.argmax(1) == before.argmax(1)).mean() >= _SAME:
            found.append(change)
    return tuple(found)


def augmented(images: tf.Tensor, augment: Sequence[Augment], seed: tf.Tensor) -> tf.Tensor:
    """A batch of images, each flipped or shifted by chance; equal seeds of shape (2,) give equal images.

    What a shift leaves behind mirrors what is beside it. Raises where the batch holds no images.
    """
    if images.shape.rank != 4:
        expected, received = "images of shape (height, width, channels)", tuple(images.shape[1:])
        raise invalid_value("augment", expected=expected, received=f"samples of shape {received}")
    if "flip" in augment:
        chance = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed)
        images = tf.where(chance < 0.5, tf.reverse(images, [2]), images)
    if "shift" in augment:
        images = _shifted(images, seed + 1)
    return images


def _shifted(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    moved = tf.gather(images, _places(count, height, seed), axis=1, batch_dims=1)
    return tf.gather(moved, _places(count, width, seed + 1), axis=2, batch_dims=1)


def _places(count: tf.Tensor, side: int, seed: tf.Tensor) -> tf.Tensor:
    """Where each row of each shifted image comes from, of shape (count, side)."""
    most = side // _SHARE
    places = tf.range(side) + tf.random.stateless_uniform((count, 1), seed, -most, most + 1, tf.int32)
    return side - 1 - tf.abs(side - 1 - tf.abs(places))
