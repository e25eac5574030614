"""Explore a problem: draw candidates, take each through the stages as far as it deserves, until enough are tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from optuna.trial import Trial

from tfgreen.energy.meter import EnergyMeter
from tfgreen.errors import TfgreenError
from tfgreen.recipes.search.candidate import Outcome
from tfgreen.recipes.search.problem import Problem, Stage
from tfgreen.recipes.search.spending import Spending, expected
from tfgreen.recipes.search.study import Study
from tfgreen.reports.quantities import quantity
from tfgreen.typing import PlainDict

_WAIT = 0.5  # seconds, while other processes try the last candidates

Say = Callable[[str], None]


def explore(
    problem: Problem, study: Study, *, trials: int, budget: Mapping[str, float], region: str | None = None,
    say: Say = lambda text: None,
) -> str:
    """Try candidates until the study holds ``trials``, by this process and others; return why it ended before, or "".

    Each step takes a candidate one stage further, the one that :func:`choose` names; those to start with go through all
    stages at once. A candidate ends where it breaks a bound whose figure training does not change. ``budget``, as
    :meth:`Spending.spent` takes it, is that of all processes together; no step is begun that goes beyond it, as far as
    those before tell, and what it interrupts is put in line again.
    """
    while True:
        study.revive()
        stages, refused = study.stages(), list[str]()
        spending = Spending.of(stages)
        spent = spending.spent(budget)
        if spent:
            return spent

        def fits(settings: PlainDict, stage: int) -> bool:
            why = spending.too_much(expected(stages, problem.epochs(settings, stage)), budget)
            refused.extend([why] if why else [])
            return not why

        if not study.is_waiting() and not study.put_in_line(trials, fits):
            if not study.running():
                return _ended(problem, len(study.candidates()), trials, refused)
            time.sleep(_WAIT)
            continue
        trial = study.ask(trials)
        if trial is not None:
            _Trying(problem, study, trial, region, say).run(budget)


def _ended(problem: Problem, tried: int, trials: int, refused: Sequence[str]) -> str:
    """Why there is nothing left to do, or "" if as many were tried as were asked for."""
    if refused:
        return refused[0]
    if tried >= trials:
        return ""
    return f"{'All' if tried >= problem.space.size else 'Nearly all'} candidates of the space are tried."


class _Trying:
    """One candidate on its way through the stages."""

    def __init__(self, problem: Problem, study: Study, trial: Trial, region: str | None, say: Say) -> None:
        self.problem, self.study, self.trial, self.region, self.say = problem, study, trial, region, say
        self.settings: PlainDict = problem.space.settings(trial.params)
        self.earlier, self.stages = study.earlier_stages(trial), list[Stage]()

    def run(self, budget: Mapping[str, float]) -> None:
        """Go through the stages and tell the study how it ended."""
        with self.study.beating(self.trial):
            outcome, reason = self._outcome(budget)
            if not outcome:  # the budget is spent
                self.study.put_back(self.trial.number, self.trial.params, self.trial.user_attrs, died=False)
                return
            figures = self.stages[-1].figures if self.stages else {}
            failed = outcome == "failed"
            violations = {} if failed else self.problem.violations(figures, trained=outcome != "infeasible")
            costs = None if failed else self.problem.costs(figures).tolist()
            self.study.finish(self.trial, outcome, reason, costs, violations)
        told = "measured" if outcome == "dropped" else f"{outcome}, {reason}" if reason else outcome  # it may go on yet
        stage = f"stage {len(self.earlier) + len(self.stages)} of {self.problem.stages}"
        self.say(f"candidate {self.study.number_of(self.trial) + 1}, {stage}: {told}")

    def _outcome(self, budget: Mapping[str, float]) -> tuple[Outcome | None, str]:
        if self.study.lost_too_often(self.trial):
            return "failed", "one process after another ended on it"
        for number in range(len(self.earlier), self.problem.stages):
            try:
                self.stages.append(self._measured(number))
            except TfgreenError as error:
                return "failed", str(error)
            self.study.record(self.trial, self.stages)
            broken = self._broken()
            if broken:
                return "infeasible", broken
            if number == self.problem.stages - 1:
                break
            if not self.trial.user_attrs.get("start"):
                return "dropped", "others promise more"
            if Spending.of(self.study.stages()).spent(budget):
                return None, ""
        return "finished", ""

    def _measured(self, number: int) -> Stage:
        begin = time.time()
        with EnergyMeter(self.region, components=("cpu", "ram")) as meter:
            figures = dict(self.problem.evaluate(self.settings, number))
        for objective in self.problem.objectives:
            if not np.isfinite(figures.get(objective.name, np.nan)):
                raise TfgreenError(f"it has no {objective.name}")
        epochs, read = self.problem.epochs(self.settings, number), meter.reading
        return Stage(figures, begin, time.time(), epochs, read.kwh, read.co2e_kg)

    def _broken(self) -> str:
        """The bounds that it breaks and that training does not help, in words."""
        figures = self.stages[-1].figures
        broken = [bound for bound in self.problem.bounds if not bound.trained and bound.violation(figures) > 0]
        return ", ".join(f"{bound.name} is {quantity(figures[bound.figure], bound.unit)}" for bound in broken)
