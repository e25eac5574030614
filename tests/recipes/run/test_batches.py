"""How many batches a split has."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfgreen.recipes.data.split import Split
from tfgreen.recipes.run.batches import batches_of


def test_arrays_are_cut_and_datasets_counted():
    x, y = np.zeros((10, 2), "float32"), np.zeros(10)
    assert batches_of(Split(x, y), 4) == 3
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
    assert batches_of(Split(dataset), 4) == 2
    assert batches_of(Split(dataset.filter(lambda x, y: True)), 4) == 2
