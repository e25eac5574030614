"""How candidates are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tests.recipes.search.problems import problem
from tfgreen.recipes.recipe.choices import Choice, Range
from tfgreen.recipes.search.explore import explore
from tfgreen.recipes.search.problem import Objective, Problem
from tfgreen.recipes.search.sampler import distributions, value_at
from tfgreen.recipes.search.space import Space
from tfgreen.recipes.search.study import Study

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


def test_the_first_draws_are_spread_over_each_range():
    study = Study(problem(), "study")
    widths = sorted(study.ask(99).params["width"] for _ in range(8))
    assert [int((width - 0.1) / 0.9 * 8) for width in widths] == list(range(8))


def test_no_candidate_is_drawn_twice_while_there_are_others():
    of = Problem(
        space=Space({"x": Range(1, 30)}), objectives=(Objective("x"),), evaluate=lambda settings, stage: dict(settings)
    )
    study = Study(of, "study")
    assert explore(of, study, trials=40, budget={}) == "All candidates of the space are tried."
    assert sorted(one.settings["x"] for one in study.candidates()) == list(range(1, 31))
