"""Images changed at random."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfgreen.errors import InvalidValueError
from tfgreen.recipes.run.steps.augment import augmented

IMAGES = tf.constant(np.random.default_rng(0).random((64, 16, 8, 3)).astype("float32") + 1)
SEED = tf.constant([3, 4], "int64")


def test_a_flip_turns_about_half_of_the_images():
    found = augmented(IMAGES, ["flip"], SEED).numpy()
    flipped = [(one == other[:, ::-1]).all() for one, other in zip(found, IMAGES.numpy())]
    same = [(one == other).all() for one, other in zip(found, IMAGES.numpy())]
    assert 16 < sum(flipped) < 48 and sum(flipped) + sum(same) == 64


def test_a_shift_moves_each_by_up_to_an_eighth_and_leaves_zeros():
    found = augmented(IMAGES, ["shift"], SEED).numpy()
    shifts = set()
    for one, other in zip(found, IMAGES.numpy()):
        padded = np.pad(other, ((2, 2), (1, 1), (0, 0)))
        moved = [(r, c) for r in range(5) for c in range(3) if (padded[r : r + 16, c : c + 8] == one).all()]
        assert len(moved) == 1
        shifts.update(moved)
    assert len(shifts) > 10
    assert (augmented(IMAGES, ["shift"], SEED).numpy() == found).all()


def test_samples_that_are_no_images_are_refused():
    with pytest.raises(InvalidValueError, match="augment: expected images"):
        augmented(tf.zeros((4, 8)), ["flip"], SEED)
