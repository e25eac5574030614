"""SparseGPT against the exact answer of float64 NumPy: least squares over the weights that stay."""

from __future__ import annotations

import numpy as np
import pytest

from tfgreen.transforms.one_shot import sparsegpt as module
from tfgreen.transforms.one_shot.sparsegpt import sparsegpt

RNG = np.random.default_rng(0)


def correlated(rows: int, width: int, rank: int | None = None) -> np.ndarray:
    mixing = RNG.normal(size=(rank or width, width))
    return RNG.normal(size=(rows, rank or width)) @ mixing


def error(x: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    return float(np.sum((x @ (before - after)) ** 2))


def row_by_row(matrix: np.ndarray, gram: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The definition: whenever a row is done, the rows behind are solved for what they can still make up for."""
    weights = matrix.astype(np.float64)
    for row in range(len(weights)):
        behind = slice(row + 1, None)
        change = np.where(kept[row], 0.0, -weights[row])
        weights[behind] -= np.linalg.solve(gram[behind, behind], gram[behind, row][:, None] * change)
        weights[row] += change
    return weights


@pytest.mark.parametrize("pattern", [None, (2, 4), (1, 3), (4, 8)])
def test_weights_are_those_of_the_exact_update_row_by_row(monkeypatch, pattern):
    monkeypatch.setattr(module, "_BLOCK", 8)  # so that 22 rows are several blocks
    x, matrix = correlated(60, 22), RNG.normal(size=(22, 5))
    gram = x.T @ x
    pruned, kept = sparsegpt(matrix, gram, 0.5, pattern, damping=1e-12)
    np.testing.assert_allclose(pruned, row_by_row(matrix, gram, kept), atol=1e-7)
    assert not pruned[~kept].any()


def test_a_single_zero_costs_what_optimal_brain_surgeon_says():
    x, matrix = correlated(50, 6), RNG.normal(size=(6, 1))
    gram = x.T @ x
    for row in range(6):  # with the row first, those behind it are all the others
        order = [row, *(i for i in range(6) if i != row)]
        weights, again = matrix[order], gram[np.ix_(order, order)]
        weights = np.concatenate([weights[:1] * 1e-9, weights[1:]])  # so that this one goes
        pruned, kept = sparsegpt(weights, again, 1 / 6, damping=1e-12)
        assert not kept[0, 0] and kept[1:].all()
        expected = weights[0, 0] ** 2 / np.linalg.inv(again)[0, 0]
        assert error(x[:, order], weights, pruned) == pytest.approx(expected, rel=1e-6)


def test_of_a_kernel_of_two_rows_the_cheaper_choice_of_all_is_made():
    for _ in range(20):
        x, matrix = correlated(30, 2), RNG.normal(size=(2, 1))
        found, kept = sparsegpt(matrix, x.T @ x, 0.5, damping=1e-12)
        # the first row may be made up for by the second, which itself has nothing behind it
        first = matrix[1] + (x[:, 0] @ x[:, 1]) / (x[:, 1] @ x[:, 1]) * matrix[0]
        choices = [np.array([[0.0], first]), np.array([matrix[0], [0.0]])]
        best = min(choices, key=lambda choice: error(x, matrix, choice))
        np.testing.assert_allclose(found, best, atol=1e-9)


@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_outputs_change_less_than_with_the_same_zeros_by_magnitude_or_norm(pattern):
    x = (correlated(400, 64, rank=24) + RNG.normal(size=(400, 64))) * RNG.uniform(0.1, 3, size=64)
    matrix = RNG.normal(size=(64, 32))
    pruned, _ = sparsegpt(matrix, x.T @ x, 0.5, pattern)
    norms = np.sqrt((x**2).sum(0))[:, None]
    errors = {"sparsegpt": error(x, matrix, pruned)}
    for name, scores in (("magnitude", np.abs(matrix)), ("wanda", np.abs(matrix) * norms)):
        half = scores > np.median(scores, axis=0)
        if pattern:
            groups = scores.reshape(16, 4, 32)
            half = (np.argsort(np.argsort(groups, axis=1), axis=1) >= 2).reshape(64, 32)
        errors[name] = error(x, matrix, np.where(half, matrix, 0))
    assert errors["sparsegpt"] < 0.6 * errors["wanda"] < 0.6 * errors["magnitude"]


def test_the_pattern_starts_anew_with_each_run_of_channels():
    matrix = RNG.normal(size=(3 * 6, 7))  # a window of three places and six channels
    x = correlated(80, 18)
    _, kept = sparsegpt(matrix, x.T @ x, 0.5, (2, 4), run=6)
    by_place = kept.reshape(3, 6, 7)
    assert (by_place[:, :4].sum(1) == 2).all() and by_place[:, 4:].all()  # the last two of six stay: 4 - 2 of them


def test_a_sparsity_is_met_to_the_weight_and_zero_sparsity_changes_nothing():
    x, matrix = correlated(50, 16), RNG.normal(size=(16, 10))
    for sparsity in (0.25, 0.5, 0.9):
        assert (~sparsegpt(matrix, x.T @ x, sparsity)[1]).sum() == round(160 * sparsity)
    np.testing.assert_array_equal(sparsegpt(matrix, x.T @ x, 0.0)[0], matrix)


def test_dead_inputs_go_first_and_the_rest_is_as_good_as_without_them():
    x = correlated(50, 8)
    x[:, [1, 5]] = 0
    matrix = RNG.normal(size=(8, 4))
    matrix[[1, 5]] *= 100
    pruned, kept = sparsegpt(matrix, x.T @ x, 0.25)
    assert not kept[[1, 5]].any() and kept[[0, 2, 3, 4, 6, 7]].all()
    assert error(x, matrix, pruned) == 0
    nothing, _ = sparsegpt(matrix, np.zeros((8, 8)), 0.5)
    assert np.isfinite(nothing).all()


@pytest.mark.parametrize("rows", [1, 3])
def test_fewer_samples_than_inputs_give_finite_weights_that_are_still_better_than_zeros_alone(rows):
    x, matrix = correlated(rows, 24), RNG.normal(size=(24, 6))
    pruned, kept = sparsegpt(matrix, x.T @ x, 0.5)
    assert np.isfinite(pruned).all()
    assert error(x, matrix, pruned) < 0.2 * error(x, matrix, np.where(kept, matrix, 0))


def test_more_damping_moves_the_weights_less():
    x, matrix = correlated(200, 12, rank=5), RNG.normal(size=(12, 6))
    moved = []
    for damping in (1e-4, 1e-2, 1.0, 100.0):
        pruned, kept = sparsegpt(matrix, x.T @ x, 0.5, damping=damping)
        moved.append(np.abs((pruned - matrix)[kept]).mean())
    assert moved == sorted(moved, reverse=True) and moved[-1] < 0.02
