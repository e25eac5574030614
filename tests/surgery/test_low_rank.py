from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.surgery.low_rank import LowRank, can_be_factorized, factorized
from tfgreen.transforms.one_shot.kernel_rows import KernelRows

LAYERS = {
    "dense": (layers.Dense(6, "relu"), (2, 5, 8)),
    "conv": (layers.Conv2D(6, 1, strides=2, activation="tanh"), (2, 5, 5, 8)),
    "conv, no bias": (layers.Conv1D(6, 1, use_bias=False), (2, 5, 8)),
    "einsum": (layers.EinsumDense("abc,cde->abde", (None, 4, 3), bias_axes="de"), (2, 5, 8)),
    "einsum of heads": (layers.EinsumDense("abnh,nhd->abd", (None, 5), bias_axes="d"), (2, 4, 3, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_two_layers_of_the_full_rank_are_the_one(name):
    layer, shape = LAYERS[name]
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    expected = keras.ops.convert_to_numpy(layer(x))
    assert can_be_factorized(layer)
    matrix = KernelRows(layer).matrix()
    two = factorized(layer, *LowRank(matrix).factors(min(matrix.shape)), (None, *shape[1:]))
    np.testing.assert_allclose(two.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)
    assert two.name == layer.name and [part.name for part in two.layers] == ["down", "up"]


def test_truncation_is_that_of_numpy():
    matrix = np.random.default_rng(0).normal(size=(9, 7))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    found = LowRank(matrix)
    one, other = found.factors(3)
    np.testing.assert_allclose(one @ other, (left[:, :3] * values[:3]) @ right[:3], atol=1e-10)
    shares = np.cumsum(values**2) / np.square(values).sum()
    assert [found.rank_of(float(share)) for share in shares[:4] - 1e-9] == [1, 2, 3, 4]
    assert found.rank_of(1.0) == 7


def test_inputs_weigh_what_is_kept():
    """Of all matrices of a rank none is nearer on the inputs at hand than the one with their products."""
    rng = np.random.default_rng(0)
    x, matrix = rng.normal(size=(500, 8)) * [10, 10, 1, 1, 0.1, 0.1, 0.1, 0.1], rng.normal(size=(8, 6))
    gram = x.T @ x / len(x)
    found = {None: LowRank(matrix).factors(2), "gram": LowRank(matrix, gram).factors(2)}
    error = {name: np.square(x @ matrix - x @ one @ other).sum() for name, (one, other) in found.items()}
    best = np.square(np.linalg.svd(x @ matrix)[1][2:]).sum()
    np.testing.assert_allclose(error["gram"], best)
    assert error[None] > best


def test_windows_and_groups_cannot_be_factorized():
    assert not can_be_factorized(layers.Conv2D(4, 3)) and not can_be_factorized(layers.LSTM(4))
