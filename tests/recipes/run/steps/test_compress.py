"""The steps that compress."""

from __future__ import annotations

import numpy as np
import pytest

from tests.recipes.run import tasks
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.run.state import State
from tfgreen.recipes.run.steps.functions import FUNCTIONS
from tfgreen.techniques.strip import strip


def carried_out(*steps):
    recipe = Recipe([*steps, "convert"])
    task = tasks.task_of(tasks.regression(), tasks.sums(), steps=recipe)
    before = task.original.get_weights()
    state = FUNCTIONS[recipe.steps[0].name](
        State(task.original), recipe.steps[0].config, task.__class__(**{**vars(task), "ahead": recipe.steps[1:]})
    )
    for old, new in zip(before, task.original.get_weights()):
        np.testing.assert_array_equal(old, new)
    return state.model


def kernel(model, index=0):
    return np.asarray(strip(model).layers[index].kernel)


def masks(model):
    (chain,) = model.layers[0].chains
    return chain.transforms[0]


def test_sparsity_rises_within_the_next_training():
    steps = 2 * 3  # two epochs of 86 samples in batches of 32
    schedule = masks(carried_out({"prune": {"sparsity": 0.75}}, {"train": {"epochs": 2}})).schedule
    assert (schedule.begin_step, schedule.final_sparsity) == (0, 0.75) and schedule.end_step == steps * 5 // 8
    overridden = carried_out({"prune": {"layers": {"dense*": {"sparsity": 0.25}}}}, {"train": {"epochs": 2}})
    assert masks(overridden).schedule.final_sparsity == 0.25


def test_sparsity_comes_at_once_without_a_training():
    assert (kernel(carried_out({"prune": {"sparsity": 0.75}})) == 0).mean() == 0.75


@pytest.mark.parametrize("later", [(), ({"train": {"epochs": 1}},)], ids=["", "train"])
def test_what_prunes_at_once_does_so_whatever_comes_next(later):
    settings = {"sparsity": 0.75, "criterion": "wanda"}
    mask = masks(carried_out({"prune": {"layers": {"dense*": settings}, **settings}}, *later))
    assert mask.sparsity == 0.75 and mask.criterion == "wanda"


def test_every_other_verb():
    assert len(np.unique(kernel(carried_out({"cluster": {"number_of_clusters": 4}})))) == 4
    assert carried_out("quantize").layers[0].activations is not None
    assert carried_out({"prune_channels": {"ratio": 0.5}}).layers[0].units == 8
    for name in ("equalize", "correct_bias", "fold_batch_norm", "recalibrate_batch_norm", "factorize", "strip"):
        assert carried_out(name).count_params()


def test_channels_are_held_at_zero_within_the_next_training_and_taken_out():
    steps = {"mask_channels": {"ratio": 0.5}}, {"distill": {"epochs": 4}}, "remove_masked_channels"
    recipe = Recipe([*steps, "convert"])
    task = tasks.task_of(tasks.regression(), tasks.sums(), steps=recipe)
    state = State(task.original)
    for number, step in enumerate(recipe.steps[:3]):
        ahead = task.__class__(**{**vars(task), "ahead": recipe.steps[number + 1 :]})
        state = tasks.stepped(FUNCTIONS[step.name], state, step.config, ahead)
    assert state.model.layers[0].units == 8 and type(state.model.layers[0]).__name__ == "Dense"
    at_once = carried_out({"mask_channels": {"target_parameters": 0.6, "round_to": 1}})
    assert (kernel(at_once) == 0).all(axis=0).sum() >= 6
