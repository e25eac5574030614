"""Study: the trials of one search, which any number of processes share, in a storage of Optuna's.

A trial that runs bears the name of its process and a count that the process raises every few seconds. A trial whose
process is gone, or whose count stands still, is taken back and put in line again: no candidate is lost.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator

import optuna
import psutil
from optuna.trial import FrozenTrial, Trial, TrialState

from tfgreen.recipes.search.candidate import Candidate, Outcome
from tfgreen.recipes.search.problem import Problem, Stage, stages_of
from tfgreen.recipes.search.sampler import Sampler, distributions, is_taken
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

    def __init__(
        self, problem: Problem, name: str, *, storage: FilePath | None = None, seed: int = 0, random: bool = False
    ) -> None:
        self._space, self._distributions = problem.space, distributions(problem.space)
        directions = [optuna.study.StudyDirection.MINIMIZE] * len(problem.objectives)
        sampler = Sampler(problem.space, seed, random=random)
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
        """What has been tried to its end, by any process, in the order of their trials."""
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
        return [self._candidate(trial) for trial in trials if "outcome" in trial.user_attrs]

    def running(self) -> int:
        """How many candidates are being tried now."""
        return len(self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def stages(self) -> list[Stage]:
        """What all stages came to and cost, those of candidates that are being tried or were put in line again too."""
        trials = self._study.get_trials(deepcopy=False)
        return [stage for trial in trials for stage in stages_of(trial.user_attrs.get("stages"))]

    def is_waiting(self) -> bool:
        """Whether a candidate is in line."""
        return bool(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def ask(self, most: int) -> Trial | None:
        """A trial of this process; None where there are as many as ``most`` already, or it would be another's again."""
        with _quiet():
            trial = self._study.ask(self._distributions)
        trial.set_user_attr("owner", self._me)
        settings = self._space.settings(trial.params)
        trials = self._study.get_trials(deepcopy=False)
        others = [one for one in trials if one.number != trial.number and is_taken(one)]
        earlier = [one for one in others if one.number < trial.number or one.state != TrialState.RUNNING]
        tried = [self._space.settings(one.params) for one in earlier if self._space.covers(one.params)]
        if len(earlier) >= most or settings in tried:
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        return trial

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
            kept = {"lost": lost, "start": attributes.get("start", False)}
            self._study.enqueue_trial(params, user_attrs=kept)

    def lost_too_often(self, trial: Trial) -> bool:
        """Whether one process after another has ended on this candidate."""
        return trial.user_attrs.get("lost", 0) >= _LIVES

    def _candidate(self, trial: FrozenTrial) -> Candidate:
        kept = trial.user_attrs
        return Candidate(
            trial.number, self._space.shown(trial.params), kept["outcome"], kept["reason"],
            stages_of(kept.get("stages")), kept["violations"], trial.params,
        )  # fmt: skip

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
