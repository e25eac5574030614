"""Regression of few points, against its formula in float64 and on functions that are known."""

from __future__ import annotations

import numpy as np
import pytest

from tfgreen.recipes.search.sampling.gaussian_process import regress


def test_equal_values_are_certain_and_points_far_away_are_not():
    x = np.random.default_rng(0).random((5, 2))
    mean, deviation = regress(x, np.full(5, 3.0), x + 9)
    assert np.all(mean == 3) and np.all(deviation == 0)
    y = x[:, 0]
    near, far = (regress(x, y, x + shift)[1] for shift in (0.01, 9.0))
    assert np.all(near < far) and np.allclose(far, y.std(), rtol=0.2)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_effects_of_single_settings_are_learnt_from_few_points(scale):
    rng = np.random.default_rng(1)
    x, at = rng.random((16, 4)), rng.random((200, 4))

    def function(points):
        return scale * (3 * points[:, 0] - 2 * points[:, 1] ** 2 + 0.5 * points[:, 2])

    mean, deviation = regress(x, function(x), at)
    error = mean - function(at)
    assert np.sqrt(np.mean(error**2)) < 0.15 * function(at).std()
    assert np.mean(np.abs(error) < 3 * deviation) > 0.9


def test_noise_is_smoothed():
    rng = np.random.default_rng(2)
    x = rng.random((40, 1))
    mean = regress(x, x[:, 0] + rng.normal(0, 0.3, 40), x)[0]
    assert np.sqrt(np.mean((mean - x[:, 0]) ** 2)) < 0.15


def test_the_mean_is_that_of_the_formula_at_the_points_themselves_without_noise():
    x = np.linspace(0, 1, 7)[:, None]
    y = np.sin(6 * x[:, 0])
    mean, deviation = regress(x, y, x)
    assert np.allclose(mean, y, atol=0.02) and np.all(deviation < 0.1)
