"""The runner: a loop over the steps of a recipe, each from its state on disk to the next."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tfgreen.config import Config
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.errors import InvalidValueError
from tfgreen.model.rebuild import rebuild
from tfgreen.recipes.progress import Progress
from tfgreen.recipes.recipe.step_settings import TrainStep
from tfgreen.recipes.recipe.steps import next_training, step_names
from tfgreen.recipes.run.account import Account, Spent, exceeded
from tfgreen.recipes.run.kept_model import CannotKeep
from tfgreen.recipes.run.keys import hash_of, step_key
from tfgreen.recipes.run.pace import Pace, weights
from tfgreen.recipes.run.record import Record
from tfgreen.recipes.run.state import State, Task
from tfgreen.recipes.run.steps.export import ORIGINAL_STEP
from tfgreen.recipes.run.steps.functions import FUNCTIONS
from tfgreen.recipes.run.store import Store
from tfgreen.recipes.run.told import own_warnings
from tfgreen.reports.curves import Curve

_CANNOT = "Keras cannot keep the model as it is after this step, so that a run that is cut off does it anew: {}."


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of the steps.

    Attributes:
        state: The last state.
        records: What is told of each step that was done.
        skipped: The steps that were not, and why.
        key: That of the last step.
        places: The folders of the steps that are kept.
    """

    state: State
    records: tuple[Record, ...]
    skipped: Mapping[str, str]
    key: str
    places: tuple[Path, ...]

    @property
    def spent(self) -> Spent:
        """What all steps took."""
        return sum((record.spent for record in self.records), Spent())


def carry_out(task: Task, store: Store, identity: Any, progress: Progress | None = None) -> Outcome:
    """Do the steps of a recipe that are not done yet, one after the other.

    Args:
        task: What the run is about; its recipe is decided.
        store: Where finished steps are.
        identity: What all steps depend on, see :func:`tfgreen.recipes.run.keys.identity`.
        progress: Where to show how far the run is.
    """
    return _Run(task, store, progress or Progress()).carried_out(hash_of(identity))


class _Run:
    """The loop, and what it carries from step to step."""

    def __init__(self, task: Task, store: Store, progress: Progress) -> None:
        self.task, self.store, self.progress = task, store, progress
        self.names = [ORIGINAL_STEP, *step_names(task.recipe.steps)]
        self.pace = Pace([0.0, *weights(task.recipe.steps)])
        self.state: State | None = None  # None: on disk
        self.keeps = True
        self.kept: list[tuple[Path, Record]] = []
        self.records: list[Record] = []
        self.skipped: dict[str, str] = {}
        self.spent = Spent()

    def carried_out(self, key: str) -> Outcome:
        steps = [(ORIGINAL_STEP, ConvertConfig()), *((s.name, _config(s)) for s in self.task.recipe.steps)]
        for number, (name, config) in enumerate(steps):
            step = self.task.recipe.steps[number - 1] if number else None
            why = exceeded(self.task.recipe.budget, self.spent)
            if config is None:
                self.skipped[self.names[number]] = "the recipe leaves it out"
            elif step is not None and why and (step.kind.trains or step.kind.lossy):
                self.skipped[self.names[number]] = why
            elif step is not None and step.kind.reads_file:
                self._do(number, name, config, None)
            else:
                try:
                    key = self._done(number, name, config, key)
                except InvalidValueError as error:
                    if name in self.task.recipe.optional:
                        self.skipped[self.names[number]] = str(error)
                        continue
                    if not number:
                        raise
                    raise type(error)(f"Step {number}, {self.names[number]}: {error}") from error
        return Outcome(
            self._state(), tuple(self.records), self.skipped, key, tuple(place for place, _ in self.kept)
        )

    def _done(self, number: int, name: str, config: Config, key: str) -> str:
        """Take a step from disk, or do it and keep it; return the key of what comes of it."""
        key = step_key(key, name, config, self.names[number], *self._others(number, name))
        place = self.store.place(number, name, key)
        record = self.store.read(place, key) if self.keeps else None
        if record is not None and record.cut and not exceeded(self.task.recipe.budget, self.spent + record.spent):
            record = None  # under another budget it goes on
        if record is None:
            record = self._do(number, name, config, place, key)
        else:
            self._count(number, record)
            self.state = None
        if self.keeps:
            self.kept.append((place, record))
        return hash_of(key, "cut") if record.cut else key

    def _others(self, number: int, name: str) -> tuple[Any, ...]:
        """What a step depends on besides its settings and the steps before it."""
        if name in ("prune", "mask_channels"):  # which go on within the next training
            training = next_training(self.task.recipe.steps[number:])
            return (None if training is None else (training.epochs, training.batch_size),)
        return (self.task.recipe.name,) if name == "convert" else ()

    def _do(self, number: int, name: str, config: Config, place: Path | None, key: str = "") -> Record:
        """Do a step; keep it where it has a place."""
        before = dataclasses.replace(self._state(), notes=(), curves=(), limits=(), cut="")
        part = self.store.unfinished(place) if place is not None and self.keeps else None
        trains = isinstance(config, TrainStep)
        if part is not None and trains:
            part.mkdir(parents=True, exist_ok=True)
        seed = int(hash_of(self.task.seed, number)[:8], 16) % 2**31
        title = f"{number} of {len(self.names) - 1}: {self.names[number]}"
        account = Account(self.spent, None if part is None else part / "spent.json", self.task.region)
        with self.progress.step(title) as show, account, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            began = time.monotonic()

            def say(text: str, share: float) -> None:
                left = self.pace.left(number, share, time.monotonic() - began)
                show(", ".join(filter(None, (text, left))), share)

            task = dataclasses.replace(
                self.task, seed=seed, ahead=self.task.recipe.steps[number:], unfinished=part, account=account, say=say
            )
            keras.utils.set_random_seed(seed)
            after = FUNCTIONS[name](before, config, task)
            spent = account.step
        notes = (*after.notes, *own_warnings(said))
        record = Record(
            name=name, key=key, settings=config.to_dict()["config"], spent=spent, notes=tuple(dict.fromkeys(notes)),
            curves=_named(after.curves, name, self.names[number]), limits=after.limits, cut=after.cut,
            exports=tuple(export for export in after.exports if export not in before.exports),
        )  # fmt: skip
        if place is not None and self.keeps:
            try:
                after = self.store.write(place, record, before, after, self.task)
            except CannotKeep as error:
                self.keeps = False
                record = dataclasses.replace(record, notes=(*record.notes, _CANNOT.format(error)))
        self.state = after
        self._count(number, record)
        return record

    def _count(self, number: int, record: Record) -> None:
        self.records.append(record)
        self.spent += record.spent
        self.pace.finished(number, record.spent.seconds)

    def _state(self) -> State:
        """The state after the steps so far."""
        if self.state is None and self.kept:
            places, records = [place for place, _ in self.kept], [record for _, record in self.kept]
            self.state = self.store.restore(places, records, self.task)
        return self.state or State(rebuild(self.task.original, lambda path, layer: layer))


def _named(curves: tuple[Curve, ...], verb: str, name: str) -> tuple[Curve, ...]:
    """The curves of a step under its own name, where several have its verb."""
    titles = (curve.title.replace(verb, name, 1) if curve.title.startswith(verb) else curve.title for curve in curves)
    return tuple(dataclasses.replace(curve, title=title) for curve, title in zip(curves, titles))


def _config(step: Any) -> Config | None:
    return None if step.settings is None else step.config
