"""What a training spends, and when it ends."""

from __future__ import annotations

import dataclasses

import pytest

from tests.recipes.run import tasks
from tfgreen.recipes.recipe.step_settings import TrainStep
from tfgreen.recipes.run.account import Account, Spent
from tfgreen.recipes.run.state import State
from tfgreen.recipes.run.steps.train import train


def trained(before=Spent(), **bounds):
    said = []
    with Account(before) as account:
        task = tasks.task_of(bounds=bounds)
        task = dataclasses.replace(task, account=account, say=lambda text, share: said.append((text, share)))
        return train(State(task.original), TrainStep(epochs=3), task), said


def test_every_epoch_is_told_with_its_energy():
    state, said = trained()
    (energy,) = [curve for curve in state.curves if "energy" in curve.y_label]
    assert len(energy.series["used"]) == 3 and state.cut == ""
    assert [share for _, share in said] == pytest.approx([1 / 3, 2 / 3, 1])
    assert said[0][0].startswith("epoch 1 of 3, loss ") and "val_loss" in said[0][0]


def test_training_ends_with_the_epoch_in_which_the_budget_is_spent():
    state, said = trained(Spent(seconds=3599.999), max_hours=1)
    assert len(said) < 3 and "time of the run is at its limit" in state.cut and state.cut in state.notes


def test_nothing_is_trained_once_it_is_spent():
    state, said = trained(Spent(seconds=3601), max_hours=1)
    assert not said and state.cut
