"""Forecast what candidates will come to once they are wholly trained, from all that was measured so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfgreen.recipes.search.candidate import Candidate
from tfgreen.recipes.search.problem import Problem
from tfgreen.recipes.search.sampling.draws import coordinates
from tfgreen.recipes.search.sampling.gaussian_process import regress
from tfgreen.typing import PlainDict

_FEW, _UNKNOWN = 3, 0.25  # changes below which their spread says nothing, and what it is then, of that of the figures


class Forecast:
    """The costs of candidates after the last stage: for each objective a mean and a standard deviation.

    From one stage to the next a figure changes by an amount that depends on the settings and on the figure itself (M.
    Kennedy and A. O'Hagan, "Predicting the output from a complex computer code when fast approximations are available",
    2000); the changes that are ahead of a candidate are added to its last figures. Costs that are positive throughout,
    as bytes and times, are forecast by their logarithms.

    Args:
        problem: What is searched.
        known: Candidates that were measured at one stage or more.
    """

    def __init__(self, problem: Problem, known: Sequence[Candidate]) -> None:
        self._problem = problem
        costs = [[problem.costs(stage.figures) for stage in one.stages] for one in known]
        self._is_positive = np.min([cost for stages in costs for cost in stages], axis=0) > 0
        self._at = np.array([coordinates(problem.space, one.draw) for one in known])
        self._stages = [self._scaled(np.array(stages)) for stages in costs]

    def of(self, draws: Sequence[PlainDict], paused: Sequence[Candidate]) -> tuple[np.ndarray, np.ndarray]:
        """Means and deviations of new draws and of candidates that were measured, of shape (n, d), in scaled costs."""
        points = [coordinates(self._problem.space, draw) for draw in (*draws, *(one.draw for one in paused))]
        at, count = np.array(points), len(self._problem.objectives)
        measured = np.array([-1] * len(draws) + [len(one.stages) - 1 for one in paused])
        means, variances = np.zeros((len(at), count)), np.zeros((len(at), count))
        for number, one in enumerate(paused, len(draws)):
            means[number] = self._scaled(np.array(self._problem.costs(one.figures)))
        for stage in range(self._problem.stages):
            ahead = measured < stage
            if ahead.any():
                for objective in range(count):
                    mean, deviation = self._change(stage, objective, at[ahead], means[ahead, objective])
                    means[ahead, objective] += mean
                    variances[ahead, objective] += deviation**2
        return means, np.sqrt(variances)

    def costs(self, scaled: np.ndarray) -> np.ndarray:
        """Costs of scaled ones, of shape (..., d)."""
        return np.where(self._is_positive, np.exp(np.where(self._is_positive, scaled, 0)), scaled)

    def _scaled(self, costs: np.ndarray) -> np.ndarray:
        return np.where(self._is_positive, np.log(np.where(self._is_positive, costs, 1)), costs)

    def _change(
        self, stage: int, objective: int, at: np.ndarray, before: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The change of an objective at a stage, at points and figures before it."""
        there = [number for number, one in enumerate(self._stages) if len(one) > stage]
        known = np.array([self._stages[number][stage, objective] for number in there])
        if not stage:
            return regress(self._at[there], known, at)
        start = np.array([self._stages[number][stage - 1, objective] for number in there])
        changes, spread = known - start, np.std([one[0, objective] for one in self._stages])
        if len(changes) < _FEW:
            mean = changes.mean() if len(changes) else 0.0
            return np.full(len(at), mean), np.full(len(at), abs(mean) + _UNKNOWN * spread)
        middle, scale = start.mean(), start.std() or 1.0
        x = np.column_stack([self._at[there], (start - middle) / scale])
        return regress(x, changes, np.column_stack([at, (before - middle) / scale]))
