"""Study: the trials of one search, which any number of processes share, in a storage of Optuna's.

A trial is a candidate on its way through one stage or more. To go on with one that was dropped is a trial of its own,
which bears the number of the trial ``before`` it. A trial that runs bears the name of its process and a count that the
process raises every few seconds. A trial whose process is gone, or whose count stands still, is taken back and put in
line again: no candidate is lost.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import optuna
import psutil
from optuna.trial import FrozenTrial, Trial, TrialState

from tfgreen.recipes.search.candidate import Candidate, Outcome
from tfgreen.recipes.search.problem import Problem, Stage, stages_of
from tfgreen.recipes.search.sampling.choose import choose
from tfgreen.recipes.search.sampling.draws import distributions
from tfgreen.recipes.search.storage import open_storage
from tfgreen.tables import plain
from tfgreen.typing import FilePath, PlainDict

BEAT, STALE = 10.0, 60.0  # seconds between two counts, and without one until a trial counts as abandoned
_LIVES = 3  # processes that may end on a candidate before it counts as failed


class Study:
    """The trials of a problem in a storage; ``name`` tells its study from others there.

    Raises:
        FileError: The storage cannot be opened.
    """

    def __init__(self, problem: Problem, name: str, *, storage: FilePath | None = None, seed: int = 0) -> None:
        self._problem, self._space, self._seed = problem, problem.space, seed
        self._distributions = distributions(problem.space)
        directions = [optuna.study.StudyDirection.MINIMIZE] * len(problem.objectives)
        sampler = optuna.samplers.RandomSampler(seed)  # never asked: all trials are put in line
        where = open_storage(storage)
        with _quiet():
            try:
                self._study = optuna.create_study(
                    storage=where, sampler=sampler, study_name=name, directions=directions
                )
            except optuna.exceptions.DuplicatedStudyError:
                self._study = optuna.load_study(storage=where, sampler=sampler, study_name=name)
            else:
                for settings in problem.start:
                    self._study.enqueue_trial(problem.space.draw(settings), user_attrs={"start": True})
        self._me: PlainDict = {"machine": platform.node(), "process": os.getpid(), "since": _since(os.getpid())}
        self._seen: dict[int, tuple[object, float]] = {}

    def candidates(self) -> list[Candidate]:
        """What has been tried, by any process, in the order of their first trials, each as far as it came."""
        trials = self._study.get_trials(deepcopy=False)
        found = [self._candidate(trial, trials) for trial in trials if "outcome" in trial.user_attrs]
        last = {one.number: one for one in found}
        return [last[number] for number in sorted(last)]

    def running(self) -> list[PlainDict]:
        """The draws of candidates that are being tried now."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial.params for trial in running if self._space.covers(trial.params)]

    def stages(self) -> list[Stage]:
        """What all stages came to and cost, those of candidates that are being tried or were put in line again too."""
        trials = self._study.get_trials(deepcopy=False)
        return [stage for trial in trials for stage in stages_of(trial.user_attrs.get("stages"))]

    def is_waiting(self) -> bool:
        """Whether a candidate is in line."""
        return bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def put_in_line(
        self, trials: int, fits: Callable[[PlainDict, int], bool] = lambda settings, stage: True
    ) -> bool:
        """Put in line what :func:`choose` names, of so many candidates in all; False if that is nothing."""
        step = choose(self._problem, self.candidates(), self.running(), trials, self._seed, fits)
        if step is None:
            return False
        before = {} if step.candidate is None else {"before": step.candidate.last_trial}
        self._study.enqueue_trial(step.draw, user_attrs=before)
        return True

    def ask(self, most: int) -> Trial | None:
        """The trial that is first in line, as this process's; None if another process does or did the same, or there
        are as many candidates as ``most`` already."""
        with _quiet():
            trial = self._study.ask(self._distributions)
        trial.set_user_attr("owner", self._me)
        trials = self._study.get_trials(deepcopy=False)
        others = [one for one in trials if one.number != trial.number and _is_taken(one)]
        earlier = [one for one in others if one.number < trial.number or one.state != TrialState.RUNNING]
        before = trial.user_attrs.get("before")
        settings = self._space.settings(trial.params)
        covered = [one for one in earlier if self._space.covers(one.params)]
        same = [one for one in covered if self._space.settings(one.params) == settings]
        done = any(one.user_attrs.get("before") == before for one in same)
        if done or (before is None and len([one for one in earlier if "before" not in one.user_attrs]) >= most):
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        return trial

    def earlier_stages(self, trial: Trial) -> list[Stage]:
        """What the candidate of a trial came to in the trials before it."""
        return self._earlier(trial.user_attrs, self._study.get_trials(deepcopy=False))

    def number_of(self, trial: Trial) -> int:
        """The number of a trial's candidate, from 0: its place among those that were tried or are being tried."""
        return _number_of(trial, self._study.get_trials(deepcopy=False))

    @contextlib.contextmanager
    def beating(self, trial: Trial) -> Iterator[None]:
        """Show in the study that the trial goes on; if this block raises, it is put in line again.

        A trial that another process took for abandoned and put in line meanwhile is that one's: the block just ends.
        """
        done = threading.Event()

        def beat() -> None:
            count = 0
            while not done.wait(BEAT):
                count += 1
                with contextlib.suppress(OSError, optuna.exceptions.OptunaError):  # the next one may succeed
                    trial.set_user_attr("beat", count)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        except optuna.exceptions.UpdateFinishedTrialError:
            return
        except BaseException:
            self.put_back(trial.number, trial.params, trial.user_attrs, died=False)
            raise
        finally:
            done.set()
            thread.join()

    def record(self, trial: Trial, stages: list[Stage]) -> None:
        """Keep what the stages of a trial have come to so far."""
        trial.set_user_attr("stages", plain(stages))

    def finish(
        self, trial: Trial, outcome: Outcome, reason: str, costs: list[float] | None, violations: dict[str, float]
    ) -> None:
        """End a trial; ``costs`` are None if it failed."""
        trial.set_user_attr("reason", reason)
        trial.set_user_attr("violations", violations)
        for name, violation in violations.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr("outcome", outcome)
        self._study.tell(trial, costs, None if costs else TrialState.FAIL)

    def revive(self) -> None:
        """Put the trials of processes that are gone in line again."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_abandoned(trial):
                self.put_back(trial.number, trial.params, trial.user_attrs, died=True)

    def put_back(self, number: int, params: PlainDict, attributes: PlainDict, *, died: bool) -> None:
        """Put a trial in line again, unless another process has just done so; ``died``: as its process has."""
        try:
            self._study.tell(number, state=TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            return
        if self._space.covers(params):
            lost = attributes.get("lost", 0) + died
            kept: PlainDict = {name: attributes[name] for name in ("start", "before") if name in attributes}
            self._study.enqueue_trial(params, user_attrs={**kept, "lost": lost})

    def lost_too_often(self, trial: Trial) -> bool:
        """Whether one process after another has ended on this candidate."""
        return trial.user_attrs.get("lost", 0) >= _LIVES

    def _candidate(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> Candidate:
        kept = trial.user_attrs
        return Candidate(
            _number_of(trial, trials), self._space.shown(trial.params), kept["outcome"], kept["reason"],
            (*self._earlier(kept, trials), *stages_of(kept.get("stages"))), kept["violations"], trial.params,
            trial.number,
        )  # fmt: skip

    def _earlier(self, attributes: PlainDict, trials: Sequence[FrozenTrial]) -> list[Stage]:
        found: list[Stage] = []
        while "before" in attributes:
            attributes = trials[attributes["before"]].user_attrs
            found = [*stages_of(attributes.get("stages")), *found]
        return found

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get("owner")
        if owner == self._me:
            return False
        if owner and owner["machine"] == self._me["machine"]:
            return _since(owner["process"]) != owner["since"]
        beat, now = (owner, trial.user_attrs.get("beat")), time.monotonic()
        if self._seen.get(trial.number, (None, 0.0))[0] != beat:
            self._seen[trial.number] = beat, now
        return now - self._seen[trial.number][1] > STALE


def _is_taken(trial: FrozenTrial) -> bool:
    """Whether a trial has been carried out or is being so, and not put back."""
    return trial.state in (TrialState.COMPLETE, TrialState.RUNNING) or "outcome" in trial.user_attrs


def _number_of(trial: Trial | FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    first, attributes = trial.number, trial.user_attrs
    while "before" in attributes:
        first = attributes["before"]
        attributes = trials[first].user_attrs
    return sum(_is_taken(one) and "before" not in one.user_attrs for one in trials[:first])


def _since(process: int) -> float | None:
    """When a process of this machine began, or None if it is not running; a number may come again."""
    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else found.create_time()
    except psutil.Error:
        return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's messages of studies and trials that were made; warnings stay."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(level, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
