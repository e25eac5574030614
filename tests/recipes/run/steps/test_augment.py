"""Images changed at random."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfgreen.errors import InvalidValueError
from tfgreen.recipes.run.steps.augment import augmented, harmless

IMAGES = tf.constant(np.random.default_rng(0).random((64, 16, 8, 3)).astype("float32") + 1)
SEED = tf.constant([3, 4], "int64")


def test_a_flip_turns_about_half_of_the_images():
    found = augmented(IMAGES, ["flip"], SEED).numpy()
    flipped = [(one == other[:, ::-1]).all() for one, other in zip(found, IMAGES.numpy())]
    same = [(one == other).all() for one, other in zip(found, IMAGES.numpy())]
    assert 16 < sum(flipped) < 48 and sum(flipped) + sum(same) == 64


def test_a_shift_moves_each_by_up_to_an_eighth_and_mirrors_the_rest():
    found = augmented(IMAGES, ["shift"], SEED).numpy()
    shifts = set()
    for one, other in zip(found, IMAGES.numpy()):
        padded = np.pad(other, ((2, 2), (1, 1), (0, 0)), mode="reflect")
        moved = [(r, c) for r in range(5) for c in range(3) if (padded[r : r + 16, c : c + 8] == one).all()]
        assert len(moved) == 1
        shifts.update(moved)
    assert len(shifts) > 10
    assert (augmented(IMAGES, ["shift"], SEED).numpy() == found).all()


def test_samples_that_are_no_images_are_refused():
    with pytest.raises(InvalidValueError, match="augment: expected images"):
        augmented(tf.zeros((4, 8)), ["flip"], SEED)


def told_by(weights: np.ndarray) -> keras.Model:
    """A classifier of images that weighs their pixels."""
    inputs = keras.Input((8, 8, 1))
    score = keras.ops.sum(inputs * weights.astype("float32"), axis=(1, 2))
    return keras.Model(inputs, keras.ops.concatenate([score, -score], axis=-1))


def test_a_change_is_harmless_where_the_classes_stay():
    images = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype("float32")
    left = np.repeat([[1.0] * 4 + [-1.0] * 4], 8, axis=0)[..., None]
    brighter = (images + 0.5 * left).astype("float32")  # on the left
    assert harmless(told_by(left), brighter) == ("shift",)
    checkered = np.indices((8, 8)).sum(0)[..., None] % 2 * 2.0 - 1
    columns = np.repeat([[1.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 1.0]], 8, axis=0)[..., None]
    assert harmless(told_by(checkered), images) == () and "flip" in harmless(told_by(columns), images)


def test_none_is_harmless_for_what_is_no_image_or_no_class():
    images = np.zeros((4, 8, 8, 1), "float32")
    assert harmless(keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)]), images) == ()
    assert harmless(keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]), np.zeros((4, 8), "float32")) == ()
    assert harmless(told_by(np.ones((8, 8, 1))), {"image": images}) == ()
