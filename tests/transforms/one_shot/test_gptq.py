from __future__ import annotations

import numpy as np
import pytest

from tfgreen.transforms.one_shot import gptq as module
from tfgreen.transforms.one_shot.gptq import gptq

RNG = np.random.default_rng(0)


def reference(matrix: np.ndarray, gram: np.ndarray, scales: np.ndarray, largest: int) -> np.ndarray:
    """Optimal brain quantization, with the inverse of what is left computed anew for every row."""
    damped = gram + 0.01 * np.diag(gram).mean() * np.eye(len(gram))
    order, weights, result = list(np.argsort(-np.diag(gram))), matrix.astype("float64"), np.zeros(matrix.shape)
    while order:
        row, inverse = order[0], np.linalg.inv(damped[np.ix_(order, order)])
        result[row] = np.clip(np.rint(weights[row] / scales[row]), -largest, largest)
        error = (weights[row] - result[row] * scales[row]) / inverse[0, 0]
        weights[order] -= np.outer(inverse[:, 0], error)
        order.pop(0)
    return result


@pytest.mark.parametrize("block", [3, 128])
def test_it_is_what_inverting_anew_for_every_row_gives(monkeypatch, block):
    monkeypatch.setattr(module, "_BLOCK", block)
    x = RNG.normal(size=(60, 4)) @ RNG.normal(size=(4, 10)) + 0.3 * RNG.normal(size=(60, 10))
    matrix = RNG.normal(size=(10, 5))
    scales = np.repeat(np.abs(matrix).max(0, keepdims=True) / 7, 10, axis=0)
    got = gptq(matrix, x.T @ x, scales, 7)
    np.testing.assert_array_equal(got, reference(matrix, x.T @ x, scales, 7))
    nearest = np.rint(matrix / scales) * scales
    assert np.square(x @ (got * scales - matrix)).sum() < 0.5 * np.square(x @ (nearest - matrix)).sum()


def test_zeros_stay_and_inputs_that_are_always_0_do_no_harm():
    x = RNG.normal(size=(40, 6))
    x[:, 2] = 0
    matrix, free = RNG.normal(size=(6, 3)), RNG.random((6, 3)) > 0.4
    got = gptq(matrix * free, x.T @ x, np.full((6, 3), 0.1), 127, free)
    assert not got[~free].any() and got[free].any() and np.isfinite(got).all()
