"""What a search has found among its candidates: the front, the best of it, and what is in the way if there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tfgreen.recipes.search.candidate import Candidate
from tfgreen.recipes.search.front import front
from tfgreen.recipes.search.problem import Problem


def front_of(problem: Problem, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The feasible candidates that no other dominates, by the first objective; of equal ones the one tried first."""
    feasible = [candidate for candidate in candidates if candidate.is_feasible]
    if not feasible:
        return []
    costs = np.array([problem.costs(candidate.figures) for candidate in feasible])
    first: dict[tuple[float, ...], Candidate] = {}
    for number in front(costs):
        first.setdefault(tuple(costs[number]), feasible[number])
    return [candidate for _, candidate in sorted(first.items(), key=lambda item: item[0])]


def best_of(problem: Problem, found: Sequence[Candidate]) -> Candidate | None:
    """The candidate of a front that a user would take.

    Where a bound limits what the first objective, the metric, may lose, that of the lowest geometric mean of the other
    objectives: ten percent less of one are worth ten percent less of another. Else that of the best metric.
    """
    if not found:
        return None
    metric, *others = problem.objectives
    bounded = any(bound.figure == metric.name for bound in problem.bounds)

    def mean(candidate: Candidate) -> float:
        costs = [other.cost(candidate.figures) for other in others]
        return sum(math.log(max(cost, 1e-300)) for cost in costs)

    def rank(candidate: Candidate) -> tuple[float, ...]:
        order = metric.cost(candidate.figures), mean(candidate)
        return order[::-1] if bounded and others else order

    return min(found, key=rank)


def closest_of(problem: Problem, candidates: Sequence[Candidate]) -> dict[str, Candidate]:
    """For each bound the candidate that breaks it least, of those that keep all others, or break them least.

    Only candidates that came to where the bound is judged: trained ones for a bound that training changes.
    """
    found = {}
    for bound in problem.bounds:
        judged = [one for one in candidates if bound.name in one.violations]
        if judged:
            found[bound.name] = min(judged, key=lambda one: _others_first(problem, one.violations, bound.name))
    return found


def _others_first(problem: Problem, violations: Mapping[str, float], name: str) -> tuple[bool, float, float]:
    is_partly_judged = len(violations) < len(problem.bounds)  # so that nobody knows what it keeps
    others = sum(max(0.0, violation) for other, violation in violations.items() if other != name)
    return is_partly_judged, others, violations[name]


def binding_of(problem: Problem, candidates: Sequence[Candidate]) -> str:
    """The bound in the way: without it the most candidates would fit; or else the one that the most break; or ""."""

    def blame(name: str) -> tuple[int, int]:
        broken = [{key for key, value in one.violations.items() if value > 0} for one in candidates]
        return sum(names == {name} for names in broken), sum(name in names for names in broken)

    return max((bound.name for bound in problem.bounds), key=blame, default="")
