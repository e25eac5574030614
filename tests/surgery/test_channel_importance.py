"""The criteria against NumPy in float64, written channel by channel."""

from __future__ import annotations

import numpy as np
import pytest

from tfgreen.surgery.channel_importance import (
    gate_change,
    geometric_median_importance,
    mean_magnitude,
    norm_importance,
    random_importance,
    scale_importance,
    slices,
)

RNG = np.random.default_rng(0)


def test_slices_hold_all_that_goes_with_a_channel():
    kernel = RNG.normal(size=(3, 4, 6))
    places = np.array([[0, 3], [5, 1]])
    got = slices(kernel, 2, places)
    assert got.shape == (2, 24)
    for channel, (one, other) in enumerate(places):
        expected = np.concatenate([kernel[:, :, one].ravel(), kernel[:, :, other].ravel()])
        np.testing.assert_array_equal(got[channel], expected)


@pytest.mark.parametrize("power", [1, 2])
def test_norms_count_each_edge_alike_whatever_its_size(power):
    parts = [RNG.normal(size=(5, 30)), 100 * RNG.normal(size=(5, 2)), np.zeros((5, 3))]
    expected = np.zeros(5)
    for part in parts[:2]:
        norms = np.array([(np.abs(row) ** power).sum() ** (1 / power) for row in part])
        expected += norms / norms.mean()
    np.testing.assert_allclose(norm_importance(parts, power), expected / 3)


def test_the_geometric_median_is_near_all_others():
    part = RNG.normal(size=(6, 4))
    expected = np.array([sum(np.linalg.norm(a - b) for b in part) for a in part])
    np.testing.assert_allclose(geometric_median_importance([part]), expected / expected.mean())
    part[2] = np.delete(part, 2, 0).mean(0)
    assert geometric_median_importance([part]).argmin() == 2


def test_scales_and_activations_are_mean_magnitudes():
    scales = [np.array([[-1.0], [2.0]]), np.array([[3.0], [0.0]])]
    assert scale_importance(scales).tolist() == [2.0, 1.0]
    values = RNG.normal(size=(7, 3, 5))
    np.testing.assert_allclose(mean_magnitude(values), [np.abs(values[:, c]).mean() for c in range(3)])


def test_the_change_of_a_gate_is_squared_sample_by_sample():
    values, gradients = RNG.normal(size=(2, 7, 3, 5))
    expected = [np.mean([(v[c] @ g[c]) ** 2 for v, g in zip(values, gradients)]) for c in range(3)]
    np.testing.assert_allclose(gate_change(values, gradients), expected)


def test_chance_is_seeded():
    assert (random_importance(4, 1, 2) == random_importance(4, 1, 2)).all()
    assert (random_importance(4, 1, 2) != random_importance(4, 1, 3)).any()
