"""The front, the best of it, and what is in the way."""

from __future__ import annotations

from tfgreen.recipes.recipe.choices import Range
from tfgreen.recipes.search.candidate import Candidate
from tfgreen.recipes.search.found import best_of, binding_of, closest_of, front_of
from tfgreen.recipes.search.problem import Bound, Objective, Problem, Stage
from tfgreen.recipes.search.space import Space


def problem(*bounds):
    return Problem(
        space=Space({"x": Range(0.0, 1.0)}), evaluate=lambda settings, stage: {}, bounds=bounds,
        objectives=(Objective("accuracy", True), Objective("size"), Objective("time", digits=2)),
    )  # fmt: skip


SMALL = Bound("max_size", "size", 60)
DROP = Bound("max_drop", "accuracy", 0.9, at_least=True, trained=True)


def candidates(of, *figures, outcome="finished"):
    found = []
    for number, (accuracy, size, time) in enumerate(figures):
        measured = {"accuracy": accuracy, "size": size, "time": time}
        violations = of.violations(measured, trained=outcome == "finished")
        found.append(Candidate(number, {}, outcome, "", (Stage(measured, 0, 1),), violations))
    return found


def test_the_front_is_of_finished_feasible_candidates_without_the_noise_of_times():
    bounded = problem(SMALL)
    figures = [(0.9, 50, 1.00), (0.95, 61, 1.0), (0.9, 50, 1.01), (0.92, 55, 1.0), (0.88, 52, 0.5), (0.8, 55, 0.5)]
    found = candidates(bounded, *figures)
    assert [one.number for one in front_of(bounded, found)] == [3, 0, 4]
    dropped = candidates(bounded, (0.99, 10, 0.1), outcome="dropped")
    assert [one.number for one in front_of(bounded, [*found, *dropped])] == [3, 0, 4]
    assert front_of(bounded, dropped) == []


def test_the_best_is_the_cheapest_within_a_drop_and_else_the_most_accurate():
    figures = [(0.99, 50, 1.0), (0.95, 30, 0.5), (0.92, 25, 0.7)]
    bounded = problem(SMALL, DROP)
    assert best_of(bounded, candidates(bounded, *figures)).number == 1
    assert best_of(problem(SMALL), candidates(problem(SMALL), *figures)).number == 0
    assert best_of(bounded, []) is None


def test_what_binds_is_the_bound_without_which_most_candidates_would_fit():
    bounded = problem(SMALL, DROP)
    found = candidates(bounded, (0.85, 50, 1), (0.88, 55, 1), (0.95, 70, 1), (0.2, 100, 1))
    assert front_of(bounded, found) == []
    assert binding_of(bounded, found) == "max_drop"
    assert {name: one.number for name, one in closest_of(bounded, found).items()} == {"max_size": 2, "max_drop": 1}
    assert binding_of(problem(), found) == ""


def test_a_candidate_that_was_not_trained_says_nothing_of_what_training_changes():
    bounded = problem(SMALL, DROP)
    found = candidates(bounded, (0.1, 80, 1), (0.1, 70, 1), outcome="infeasible")
    assert {name: one.number for name, one in closest_of(bounded, found).items()} == {"max_size": 1}
    assert binding_of(bounded, found) == "max_size"
