"""Dominance and hypervolume against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from tfgreen.recipes.search.front import dominates, front, hypervolume


def test_the_front_is_what_no_other_point_dominates():
    points = np.random.default_rng(0).integers(0, 5, (40, 3))
    found = front(points)
    for number, point in enumerate(points):
        worse = [all(other <= point) and any(other < point) for other in points]
        assert (number in found) == (not any(worse))
    assert dominates(points, points).sum() == 0


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_hypervolume_is_the_share_of_cells_that_a_point_dominates(count):
    rng = np.random.default_rng(count)
    side = 8
    points = rng.integers(0, side + 2, (12, count))  # some of them beyond the reference
    cells = np.stack(np.meshgrid(*[np.arange(side)] * count), -1).reshape(-1, count)
    covered = sum(bool((points <= cell).all(1).any()) for cell in cells)
    assert hypervolume(points, np.full(count, side)) == covered


def test_no_point_has_no_volume_and_one_more_never_takes_any_away():
    assert hypervolume(np.empty((0, 2)), np.array([1.0, 1.0])) == 0
    points, reference = np.random.default_rng(1).random((10, 3)), np.ones(3)
    volumes = [hypervolume(points[:count], reference) for count in range(11)]
    assert volumes == sorted(volumes)
