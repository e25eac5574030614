"""Explore a problem: draw candidates, take each through the stages as far as it deserves, until enough are tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from optuna.trial import Trial

from tfgreen.energy.meter import EnergyMeter
from tfgreen.errors import TfgreenError
from tfgreen.recipes.search.candidate import Candidate, Outcome
from tfgreen.recipes.search.problem import Problem, Stage
from tfgreen.recipes.search.spending import Spending
from tfgreen.recipes.search.study import Study
from tfgreen.reports.quantities import quantity
from tfgreen.typing import PlainDict

_WAIT = 0.5  # seconds, while other processes try the last candidates
_IN_VAIN = 5  # draws in turn that were known already, after which none is left

Say = Callable[[str], None]


def explore(
    problem: Problem, study: Study, *, trials: int, budget: Mapping[str, float], region: str | None = None,
    say: Say = lambda text: None,
) -> str:
    """Try candidates until the study holds ``trials``, by this process and others; return why it ended before, or "".

    A candidate ends at a stage, and is not trained further, if it breaks a bound whose figure training does not change,
    or if another that is within these bounds outclasses it by the figures of both at that stage. ``budget``, as
    :meth:`Spending.spent` takes it, is that of all processes together; it is looked at after each stage, and what it
    interrupts is put in line again.
    """
    in_vain = 0
    while True:
        study.revive()
        tried, running = len(study.candidates()), study.running()
        if tried >= trials:
            return ""
        spent = Spending.of(study.stages()).spent(budget)
        if spent:
            return spent
        left = trials - tried - running
        if in_vain >= _IN_VAIN or tried + running >= problem.space.size:
            left = 0
            if not running and not study.is_waiting():
                return f"{'All' if tried >= problem.space.size else 'Nearly all'} candidates of the space are tried."
        if left <= 0 and not study.is_waiting():
            time.sleep(_WAIT)
            continue
        trial = study.ask(trials)
        in_vain = in_vain + 1 if trial is None else 0
        if trial is not None:
            _Trying(problem, study, trial, region, say).run(budget)


class _Trying:
    """One candidate on its way through the stages."""

    def __init__(self, problem: Problem, study: Study, trial: Trial, region: str | None, say: Say) -> None:
        self.problem, self.study, self.trial, self.region, self.say = problem, study, trial, region, say
        self.settings: PlainDict = problem.space.settings(trial.params)
        self.stages: list[Stage] = []

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
        self.say(f"candidate {self.trial.number + 1}: {outcome}{f', {reason}' if reason else ''}")

    def _outcome(self, budget: Mapping[str, float]) -> tuple[Outcome | None, str]:
        if self.study.lost_too_often(self.trial):
            return "failed", "one process after another ended on it"
        for number in range(self.problem.stages):
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
            rival = None if self.trial.user_attrs.get("start") else self._rival(number)
            if rival is not None:
                return "dropped", f"candidate {rival.number + 1} is far better at stage {number + 1}"
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

    def _rival(self, number: int) -> Candidate | None:
        """A candidate that dominates it at this stage."""
        figures = self.stages[number].figures
        for other in self.study.candidates():
            if other.outcome in ("finished", "dropped") and len(other.stages) > number:
                if self.problem.outclasses(other.stages[number].figures, figures):
                    return other
        return None
