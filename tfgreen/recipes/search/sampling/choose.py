"""Choose what a search does next: draw a new candidate, or train one that promises more a stage further."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfgreen.recipes.search.candidate import Candidate
from tfgreen.recipes.search.front import front
from tfgreen.recipes.search.problem import Problem
from tfgreen.recipes.search.sampling.draws import random_draw, spread_draw
from tfgreen.recipes.search.sampling.forecast import Forecast
from tfgreen.recipes.search.sampling.improvement import expected_improvement, normal_samples
from tfgreen.typing import PlainDict

STARTUP = 8  # candidates that are spread over the space, before any is forecast
_DRAWS, _ATTEMPTS = 200, 500  # new draws to choose from, and draws in all to find them
_LEAST = 1e-4  # share of the volume below which no candidate promises anything


@dataclasses.dataclass(frozen=True)
class Step:
    """A draw to try: that of a new candidate, or of one that was tried, to take it one stage further."""

    draw: PlainDict
    candidate: Candidate | None = None


def choose(
    problem: Problem, tried: Sequence[Candidate], running: Sequence[PlainDict], trials: int, seed: int,
    fits: Callable[[PlainDict, int], bool] = lambda settings, stage: True,
) -> Step | None:  # fmt: skip
    """A draw of a new candidate, or the one that was tried to go on with; None if no step promises anything.

    The first are spread over the space. Then each step is for the candidate, new or not, from which the front can
    expect most (:func:`expected_improvement` of what :class:`Forecast` says of it); where no candidate is in sight that
    holds the bounds, for the one that comes nearest.

    Args:
        problem: What is searched.
        tried: The candidates so far, each as far as it came.
        running: Draws that are being tried.
        trials: Candidates to try in all.
        seed: Of the search.
        fits: Whether a stage of a candidate fits into what is left to spend.
    """
    space = problem.space
    known = [space.settings(one.draw) for one in tried] + [space.settings(draw) for draw in running]
    rng = np.random.default_rng((seed, len(running) + sum(1 + len(one.stages) for one in tried)))
    left = trials - len(known)
    if left > 0 and len(known) < STARTUP:
        draw = spread_draw(space, seed, len(known), STARTUP)
        if space.settings(draw) not in known and fits(space.settings(draw), 0):
            return Step(draw)
    draws = _new_draws(problem, known, rng) if left > 0 else []
    busy = [space.settings(draw) for draw in running]
    paused = [one for one in tried if one.outcome == "dropped" and space.settings(one.draw) not in busy]
    draws = [draw for draw in draws if fits(space.settings(draw), 0)]
    paused = [one for one in paused if fits(space.settings(one.draw), len(one.stages))]
    measured = [one for one in tried if one.stages]
    if not draws and not paused:
        return None
    if not measured:
        return Step(draws[0])
    gains, nearness = _promises(problem, draws, paused, measured, rng)
    if gains.max() > _LEAST:
        best = int(gains.argmax())
    elif any(one.is_feasible for one in tried):
        if not draws:
            return None
        best = 0
    else:
        best = int(nearness.argmax())
    if best < len(draws):
        return Step(draws[best])
    return Step(dict(paused[best - len(draws)].draw), paused[best - len(draws)])


def _promises(
    problem: Problem, draws: Sequence[PlainDict], paused: Sequence[Candidate], measured: Sequence[Candidate],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """What each new draw and each paused candidate promises: the gain of the front, and how near to the bounds."""
    forecast = Forecast(problem, measured)
    means, deviations = forecast.of(draws, paused)
    costs = forecast.costs(normal_samples(means, deviations, rng))
    excess = np.sum([_excess(problem, costs[..., number], number) for number in range(costs.shape[-1])], axis=0)
    finished = [one for one in measured if one.outcome == "finished"]
    points = np.array([problem.costs(one.figures) for one in finished if one.is_feasible])
    points = points.reshape(-1, costs.shape[-1])
    points = points[front(points)]
    reference = _reference(problem, [problem.costs(one.figures) for one in measured])
    return expected_improvement(costs, excess == 0, points, reference, rng), -excess.mean(1)


def _excess(problem: Problem, costs: np.ndarray, number: int) -> np.ndarray:
    """By how much of their limits the bounds on an objective are broken."""
    objective, excess = problem.objectives[number], np.zeros(costs.shape)
    for bound in problem.bounds:
        if bound.figure == objective.name:
            limit = objective.cost({objective.name: bound.limit})
            excess += np.maximum(0.0, costs - limit) / (abs(limit) or 1.0)
    return excess


def _reference(problem: Problem, found: Sequence[np.ndarray]) -> np.ndarray:
    """Costs that are of no use: a bound, or those of the model as it is; of the first, the worst that was measured."""
    worst = np.max(found, axis=0)
    if problem.reference is not None:
        whole = problem.costs(problem.reference)
        worst[1:] = whole[1:]
    for number, objective in enumerate(problem.objectives):
        for bound in problem.bounds:
            if bound.figure == objective.name:
                limit = objective.cost({objective.name: bound.limit})
                worst[number] = limit if number == 0 else min(worst[number], limit)
    return worst


def _new_draws(problem: Problem, known: Sequence[PlainDict], rng: np.random.Generator) -> list[PlainDict]:
    """Random draws that mean candidates which are new, each once."""
    seen, found = [*known], []
    for _ in range(_ATTEMPTS):
        draw = random_draw(problem.space, rng)
        settings = problem.space.settings(draw)
        if settings not in seen:
            seen.append(settings)
            found.append(draw)
        if len(found) == _DRAWS:
            break
    return found
