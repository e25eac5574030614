from __future__ import annotations

import numpy as np

from tfgreen.transforms.integer_weights import group_scales
from tfgreen.transforms.one_shot.awq import awq_factors

RNG = np.random.default_rng(0)


def error(matrix: np.ndarray, x: np.ndarray, factors: np.ndarray) -> float:
    scaled = matrix * factors[:, None]
    scales = np.repeat(group_scales(scaled, 4, 8), 8, axis=0)
    return float(np.square(x @ (np.rint(scaled / scales) * scales / factors[:, None] - matrix)).sum())


def test_large_inputs_get_larger_factors_and_the_products_change_less():
    sizes = np.ones(16)
    sizes[[3, 9]] = 30
    x, matrix = RNG.normal(size=(80, 16)) * sizes, RNG.normal(size=(16, 8)).astype("float32")
    factors = awq_factors(matrix, x.T @ x, 4, 8)
    assert factors[[3, 9]].min() > 2 * np.delete(factors, [3, 9]).max()
    assert error(matrix, x, factors) < 0.5 * error(matrix, x, np.ones(16, "float32"))


def test_no_inputs_give_no_factors():
    np.testing.assert_array_equal(awq_factors(RNG.normal(size=(8, 2)), np.zeros((8, 8)), 4, None), np.ones(8))
