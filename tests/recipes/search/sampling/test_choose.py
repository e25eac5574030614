"""What a search does next."""

from __future__ import annotations

import dataclasses

from tests.recipes.search.problems import DROP, SMALL, figures, problem
from tfgreen.recipes.search.candidate import Candidate
from tfgreen.recipes.search.problem import Stage
from tfgreen.recipes.search.sampling.choose import STARTUP, choose


def candidate(of, number, width, quantization, stages):
    settings = {"width": width, "quantization": quantization}
    kept = tuple(Stage(figures(settings, stage), 0.0, 1.0) for stage in range(stages))
    outcome = "finished" if stages == of.stages else "dropped"
    found = Candidate(number, settings, outcome, "", kept, {}, of.space.draw(settings))
    return dataclasses.replace(found, violations=of.violations(found.figures))


def test_the_first_are_spread_and_new():
    of, tried = problem(), []
    for number in range(STARTUP):
        step = choose(of, tried, [], 20, 0)
        settings = of.space.settings(step.draw)
        assert step.candidate is None and settings not in [one.settings for one in tried]
        tried.append(candidate(of, number, **settings, stages=1))


def test_one_that_others_are_better_than_is_left_alone():
    of = problem(bounds=())
    good = [candidate(of, number, 0.2 + number / 10, "int8", 3) for number in range(6)]
    poor, promising = candidate(of, 6, 0.35, "float32", 1), candidate(of, 7, 0.95, "int8", 1)
    step = choose(of, [*good, poor, promising], [], 8, 0)
    assert step.candidate is promising


def test_nothing_is_left_where_all_are_finished_or_running():
    of = problem()
    tried = [candidate(of, number, 0.2 + number / 10, "int8", 3) for number in range(8)]
    assert choose(of, tried, [], 8, 0) is None
    paused = candidate(of, 8, 0.95, "int8", 1)
    assert choose(of, [*tried, paused], [paused.draw], 9, 0) is None


def test_what_does_not_fit_into_the_budget_is_not_begun():
    of = problem()
    tried = [candidate(of, number, 0.2 + number / 10, "int8", 1) for number in range(8)]
    assert choose(of, tried, [], 8, 0) is not None
    assert choose(of, tried, [], 8, 0, lambda settings, stage: stage == 0) is None
    step = choose(of, tried, [], 9, 0, lambda settings, stage: stage == 0)
    assert step.candidate is None


def test_where_nothing_holds_the_bounds_the_nearest_goes_on():
    tight = dataclasses.replace(DROP, limit=2.0)  # an accuracy that nothing has
    of = problem(bounds=(tight,))
    tried = [candidate(of, number, 0.1 + number / 10, "float32", 3) for number in range(8)]
    step = choose(of, [*tried, candidate(of, 8, 0.12, "int8", 1), candidate(of, 9, 1.0, "float32", 1)], [], 10, 0)
    assert step.candidate.settings == {"width": 1.0, "quantization": "float32"}


def test_a_bound_of_size_keeps_draws_below_it():
    of = problem(bounds=(SMALL,))
    tried = [candidate(of, number, 0.1 + number / 9, ("int8", "float32")[number % 2], 3) for number in range(8)]
    for seed in range(8):
        step = choose(of, tried, [], 20, seed)
        assert figures(of.space.settings(step.draw), 2)["size"] < 230
