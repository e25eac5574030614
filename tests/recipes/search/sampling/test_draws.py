"""How candidates are drawn, and where they lie."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tfgreen.recipes.recipe.choices import Choice, Range
from tfgreen.recipes.search.sampling.draws import coordinates, distributions, random_draw, spread_draw, value_at
from tfgreen.recipes.search.space import Space

SPACE = {
    "ordered": Choice((3, 1, 2)), "named": Choice(("a", None)), "share": Range(0.0, 1.0), "count": Range(2, 8, step=2),
    "rate": Range(1e-4, 1e-2, log=True), "grid": Range(0.0, 1.0, step=0.25), "whole": Range(1, 64, log=True),
}  # fmt: skip


def test_numbers_have_an_order_and_names_have_none():
    found = distributions(Space(SPACE))
    assert found["ordered"] == IntDistribution(0, 2) and found["named"] == CategoricalDistribution((0, 1))
    assert found["count"] == IntDistribution(2, 8, step=2)
    assert found["rate"] == FloatDistribution(1e-4, 1e-2, log=True)


@pytest.mark.parametrize("name", SPACE)
def test_shares_go_evenly_through_a_distribution(name):
    how = distributions(Space(SPACE))[name]
    values = [value_at(how, share) for share in np.linspace(0, 1, 200, endpoint=False)]
    assert all(how._contains(how.to_internal_repr(value)) for value in values)
    assert values == sorted(values) and values[0] == value_at(how, 0.0)
    if name in ("count", "grid", "ordered"):
        counts = np.unique(values, return_counts=True)[1]
        assert counts.max() - counts.min() <= 1
    if name == "rate":
        assert np.isclose(np.median(values), 1e-3, rtol=0.05)


def test_spread_draws_take_every_part_of_each_range_in_turn():
    space = Space({"width": Range(0.1, 1.0), "count": Range(1, 8)})
    draws = [spread_draw(space, 3, number, 8) for number in range(8)]
    assert sorted(int((draw["width"] - 0.1) / 0.9 * 8) for draw in draws) == list(range(8))
    assert sorted(draw["count"] for draw in draws) == list(range(1, 9))
    assert draws == [spread_draw(space, 3, number, 8) for number in range(8)]


def test_coordinates_are_shares_and_what_is_not_needed_is_alike():
    space = Space({"rate": Range(1e-4, 1e-2, log=True), "step": Choice(({"bits": Choice((8, 2, 4))}, None))})
    bits = next(name for name in space.places if "bits" in name)
    point = coordinates(space, {"rate": 1e-3, "step": 0, bits: 2})
    assert np.allclose(point, [0.5, 1, 0, 1])
    without = [coordinates(space, {"rate": 1e-3, "step": 1, bits: number}) for number in range(3)]
    assert np.allclose(without, [0.5, 0, 1, 0.5])


def test_random_draws_are_candidates():
    space, rng = Space(SPACE), np.random.default_rng(0)
    for _ in range(50):
        draw = random_draw(space, rng)
        assert space.covers(draw) and all(0 <= share <= 1 for share in coordinates(space, draw))
