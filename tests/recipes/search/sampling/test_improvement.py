"""Expected improvement, against the exact hypervolume."""

from __future__ import annotations

import numpy as np
import pytest

from tfgreen.recipes.search.front import hypervolume
from tfgreen.recipes.search.sampling.improvement import expected_improvement, normal_samples


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_it_is_what_the_hypervolume_gains(objectives):
    rng = np.random.default_rng(objectives)
    front, new = rng.random((4, objectives)), rng.random((20, 1, objectives))
    reference = np.full(objectives, 0.9)
    gains = expected_improvement(new, np.ones((20, 1), bool), front, reference, rng)
    best = np.minimum(np.concatenate([front, new[:, 0]]).min(0), reference)
    whole = np.prod(reference - best)
    exact = [hypervolume(np.vstack([front, one]), reference) - hypervolume(front, reference) for one in new]
    assert np.allclose(gains, np.array(exact) / whole, atol=0.03)


def test_what_breaks_a_bound_gains_nothing():
    costs, feasible = np.zeros((2, 4, 2)), np.array([[True] * 4, [False, False, True, True]])
    gains = expected_improvement(costs, feasible, np.empty((0, 2)), np.ones(2), np.random.default_rng(0))
    assert gains.tolist() == [1.0, 0.5]


def test_samples_have_their_means_and_deviations():
    samples = normal_samples(np.array([[1.0, -2.0]] * 500), np.array([[0.0, 3.0]] * 500), np.random.default_rng(0))
    assert np.all(samples[..., 0] == 1) and 1.5 < samples[0, :, 1].std() < 5
    assert np.array_equal(samples[0], samples[1])
