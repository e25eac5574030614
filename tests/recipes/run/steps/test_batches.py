"""Batches of a training: how many, and in which order."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfgreen.recipes.data.split import Split
from tfgreen.recipes.run.steps.batches import batches_of, epochs_of, is_ordered


def test_arrays_are_cut_and_datasets_counted():
    x, y = np.zeros((10, 2), "float32"), np.zeros(10)
    assert batches_of(Split(x, y), 4) == 3
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
    assert batches_of(Split(dataset), 4) == 2
    assert batches_of(Split(dataset.filter(lambda x, y: True)), 4) == 2
    assert is_ordered(Split(x, y)) and not is_ordered(Split(dataset))


def seen(batches):
    return [batch[1].numpy().tolist() for batch in batches]


def test_the_order_depends_on_the_seed_and_the_epoch_alone():
    x = np.arange(10.0)[:, None]
    split = Split({"a": x, "b": [x, x]}, np.arange(10), np.ones(10))
    whole = seen(epochs_of(split, 4, range(0, 3), 7))
    assert [len(batch) for batch in whole] == [4, 4, 2] * 3
    for epoch in range(3):
        assert sorted(sum(whole[3 * epoch : 3 * epoch + 3], [])) == list(range(10))
    assert whole[:3] != whole[3:6] and seen(epochs_of(split, 4, range(1, 3), 7)) == whole[3:]
    assert seen(epochs_of(split, 4, range(0, 3), 8)) != whole
    assert seen(epochs_of(split, 4, range(0, 1), 7, shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    inputs, _, weights = next(iter(epochs_of(split, 4, range(0, 1), 7)))
    assert set(inputs) == {"a", "b"} and inputs["b"][1].shape == (4, 1) and weights.shape == (4,)


def test_so_does_the_augmentation():
    images = np.random.default_rng(0).random((6, 8, 8, 1)).astype("float32")
    split = Split(images, np.arange(6))
    whole = [batch[0].numpy() for batch in epochs_of(split, 4, range(0, 3), 7, augment=("flip", "shift"))]
    later = [batch[0].numpy() for batch in epochs_of(split, 4, range(1, 3), 7, augment=("flip", "shift"))]
    assert all((one == other).all() for one, other in zip(whole[2:], later, strict=True))
    plain = [batch[0].numpy() for batch in epochs_of(split, 4, range(0, 1), 7)]
    assert (plain[0] != whole[0]).any()


def test_datasets_of_the_user_are_repeated():
    dataset = tf.data.Dataset.from_tensor_slices((np.zeros((4, 8, 8, 1), "float32"), np.arange(4))).batch(2)
    batches = epochs_of(Split(dataset), 2, range(0, 2), 7, augment=("flip",))
    assert seen(batches) == [[0, 1], [2, 3], [0, 1], [2, 3]]
