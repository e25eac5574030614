"""Finished steps on disk."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.recipes.run import tasks
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.errors import FileError
from tfgreen.recipes.run import store as store_module
from tfgreen.recipes.run.record import Record
from tfgreen.recipes.run.state import State
from tfgreen.recipes.run.steps.export import convert_original
from tfgreen.recipes.run.store import Store


@pytest.fixture
def kept(tmp_path):
    """A store with the original, and a second model."""
    task, store = tasks.task_of(), Store(tmp_path / "steps")
    before = State(task.original)
    after = convert_original(before, ConvertConfig(), task)
    record = Record(name="original", key="k0", settings={}, exports=("float32",))
    first = store.write(store.place(0, "original", "k0"), record, before, after, task)
    changed = State(tasks.classifier(), first.exports)
    store.write(store.place(1, "train", "k1"), Record(name="train", key="k1", settings={}), first, changed, task)
    return task, store, changed


def test_a_state_is_restored_as_it_was(kept):
    task, store, changed = kept
    places = [store.place(0, "original", "k0"), store.place(1, "train", "k1")]
    records = [store.read(place, key) for place, key in zip(places, ("k0", "k1"))]
    state = store.restore(places, records, task)
    for one, other in zip(state.model.get_weights(), changed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(state.exports["float32"].model.get_weights(), task.original.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert bytes(state.exports["float32"].lite.content) == bytes(changed.exports["float32"].lite.content)


def test_another_key_or_a_damaged_record_is_none(kept):
    _, store, _ = kept
    place = store.place(1, "train", "k1")
    assert store.read(place, "k1") is not None and store.read(place, "k2") is None
    (place / "step.json").write_text("{")
    assert store.read(place, "k1") is None and store.read(store.place(2, "train", "k1"), "k1") is None


def test_a_step_that_cannot_be_written_leaves_nothing(kept, monkeypatch):
    task, store, changed = kept

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "write_atomic", full)
    with pytest.raises(FileError, match="No space left.*What was finished is kept"):
        store.write(store.place(2, "train", "k2"), Record(name="train", key="k2", settings={}), changed, changed, task)
    assert sorted(os.listdir(store.folder)) == ["00-original-k0", "01-train-k1"]


def test_steps_of_other_runs_are_removed_with_all_they_kept(kept):
    _, store, _ = kept
    first = store.place(0, "original", "k0")
    store.unfinished(first).mkdir()
    store.unfinished(store.place(1, "train", "k1")).mkdir()
    store.keep_only([first])
    assert sorted(os.listdir(store.folder)) == ["00-original-k0", "00-original-k0.part"]
