"""Store: the steps that are done, each in a folder of its own that has its name once it is complete."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from tfgreen.deploy.litert_model import load_litert
from tfgreen.files import atomic_folder, write_atomic
from tfgreen.recipes.measure.measure_variants import Export
from tfgreen.recipes.run.folder import writing
from tfgreen.recipes.run.kept_model import load_kept, save_kept
from tfgreen.recipes.run.record import Record
from tfgreen.recipes.run.state import State, Task

_RECORD, _MODEL = "step.json", "model.keras"


class Store:
    """The finished steps of runs in a folder, by number, name and key.

    A step goes on from what is on disk, not from what is in memory: what a run that was cut off finds there is what one
    that was not has worked with.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, number: int, name: str, key: str) -> Path:
        """The folder of a step."""
        return self.folder / f"{number:02d}-{name}-{key[:12]}"

    def unfinished(self, place: Path) -> Path:
        """The folder of a step that is not done, for what it keeps until then."""
        return place.with_name(f"{place.name}.part")

    def read(self, place: Path, key: str) -> Record | None:
        """The record of a finished step; None where there is none that can be read."""
        try:
            record = Record.from_dict(json.loads((place / _RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError):  # none, or damaged: the step is done anew
            return None
        return record if record.key == key else None

    def write(self, place: Path, record: Record, before: State, after: State, task: Task) -> State:
        """Keep a finished step; return its state as it was read back.

        Raises:
            CannotKeep: Keras cannot save the model, or what it loads is another one.
            FileError: The disk is full, or the folder cannot be written.
        """
        changed = after.model is not before.model or record.name == "original"
        kept = {}
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if place.exists():  # damaged, or cut short by another budget
                shutil.rmtree(place)
            with atomic_folder(place, ()) as folder:
                if changed:
                    kept[id(after.model)] = save_kept(after.model, folder / _MODEL, task)
                for name in record.exports:
                    export = after.exports[name]
                    if id(export.model) not in kept:
                        kept[id(export.model)] = save_kept(export.model, folder / f"{name}.keras", task)
                    export.lite.save(folder / f"{name}.tflite")
                write_atomic(folder / _RECORD, json.dumps(record.to_dict(), indent=1) + "\n")
        if not record.cut:  # which may go on under another budget
            shutil.rmtree(self.unfinished(place), ignore_errors=True)
        exports = {name: Export(kept.get(id(e.model), e.model), e.lite) for name, e in after.exports.items()}
        return dataclasses.replace(after, model=kept.get(id(after.model), after.model), exports=exports)

    def restore(self, places: Sequence[Path], records: Sequence[Record], task: Task) -> State:
        """The state after finished steps, the first of which is the original."""
        model, exports = places[0] / _MODEL, {}
        for place, record in zip(places, records):
            if (place / _MODEL).exists():
                model = place / _MODEL
            for name in record.exports:
                own = place / f"{name}.keras"
                exported = load_kept(own if own.exists() else place / _MODEL, task)
                exports[name] = Export(exported, load_litert(place / f"{name}.tflite"))
        return State(load_kept(model, task), exports)

    def keep_only(self, places: Sequence[Path]) -> None:
        """Remove all steps but these."""
        names = {name for place in places for name in (place.name, self.unfinished(place).name)}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name not in names and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
