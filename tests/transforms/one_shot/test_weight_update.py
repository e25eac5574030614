"""The weight update against least squares of float64 NumPy, output by output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.transforms.one_shot.sparsegpt import damped, sparsegpt
from tfgreen.transforms.one_shot.weight_update import update_kept


def problem(seed: int, rows: int = 300, inputs: int = 24, outputs: int = 7):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, inputs)) @ (np.eye(inputs) + 0.3 * rng.normal(size=(inputs, inputs)))
    return x, rng.normal(size=(inputs, outputs)), rng


def error(gram: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.einsum("io,ij,jo->o", before - after, gram, before - after)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_least_squares_answer_of_each_output(seed):
    x, matrix, rng = problem(seed)
    kept = rng.random(matrix.shape) < 0.5
    gram = x.T @ x
    found = update_kept(matrix, np.where(kept, matrix, 0), kept, gram, damping=1e-9)
    for output in range(matrix.shape[1]):
        at = kept[:, output]
        expected = np.linalg.lstsq(x[:, at], x @ matrix[:, output], rcond=None)[0]
        np.testing.assert_allclose(found[at, output], expected, atol=2e-3)
    assert not found[~kept].any()


@given(st.integers(0, 10_000), st.sampled_from([None, (2, 4), (1, 4)]), st.integers(1, 60))
def test_no_output_is_further_away_than_after_sparsegpt(seed, pattern, rows):
    x, matrix, _ = problem(seed, rows=rows)
    gram = x.T @ x
    pruned, kept = sparsegpt(matrix, gram, 0.5, pattern)
    found = update_kept(matrix, pruned, kept, gram)
    whole = damped(gram, 0.01)
    assert np.all(error(whole, matrix, found) <= error(whole, matrix, pruned) * (1 + 1e-6) + 1e-9)
    assert np.isfinite(found).all() and not found[~kept].any()


def test_outputs_gain_on_sparsegpt_where_inputs_are_correlated():
    x, matrix, _ = problem(5, inputs=64, outputs=32)
    gram = x.T @ x
    pruned, kept = sparsegpt(matrix, gram, 0.5)
    found = update_kept(matrix, pruned, kept, gram)
    assert error(gram, matrix, found).sum() < 0.9 * error(gram, matrix, pruned).sum()


def test_inputs_of_nothing_but_zeros_and_outputs_without_weights_stay():
    matrix = np.ones((4, 3))
    kept = np.ones((4, 3), bool)
    kept[:, 0] = False
    found = update_kept(matrix, np.where(kept, matrix, 0), kept, np.zeros((4, 4)))
    np.testing.assert_array_equal(found, np.where(kept, matrix, 0))
