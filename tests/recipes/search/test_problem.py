"""Objectives, bounds and stages as numbers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.recipes.search.problems import DROP, SMALL, problem
from tfgreen.recipes.search.problem import Objective, Problem, Stage, stages_of
from tfgreen.tables import plain


def test_costs_are_minimized_and_times_compared_at_the_digits_that_can_be_trusted():
    assert problem().costs({"accuracy": 0.9, "size": 100}).tolist() == [-0.9, 100]
    time = Objective("time", digits=2)
    assert time.cost({"time": 1.234}) == time.cost({"time": 1.24}) != time.cost({"time": 1.26})
    assert time.cost({"time": 4.21e-9}) == 4.2e-9


def test_what_differs_by_chance_makes_no_candidate_better():
    of = Problem(
        space=problem().space, evaluate=lambda settings, stage: {},
        objectives=(Objective("size"), Objective("time", digits=2)),
    )
    assert not of.is_better({"size": 1, "time": 1.0}, {"size": 1, "time": 2.0})
    assert of.is_better({"size": 1, "time": 1.0}, {"size": 2, "time": 1.01})
    assert not of.is_better({"size": 1, "time": 2.0}, {"size": 2, "time": 1.0})


def test_violations_are_shares_of_the_limit_and_of_trained_figures_only_after_training():
    figures = {"accuracy": 0.81, "size": 300}
    assert problem().violations(figures) == {"max_size": pytest.approx(0.5), "max_drop": pytest.approx(0.1)}
    assert list(problem().violations(figures, trained=False)) == ["max_size"]
    assert SMALL.violation({"size": 200}) == 0 and DROP.violation({"accuracy": 0.99}) < 0


def test_stages_are_kept_as_plain_values():
    stages = (Stage({"size": 1.0}, 0.0, 1.0, 3, 0.5), Stage({"size": 2.0}, 1.0, 2.0))
    assert stages_of(plain(stages)) == stages and stages_of(None) == ()
    assert np.isclose(stages[0].end - stages[0].begin, 1)
