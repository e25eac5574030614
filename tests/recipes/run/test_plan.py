"""The plan of a run, with its time and energy."""

from __future__ import annotations

import pytest

from tests.recipes.run import tasks
from tfgreen.errors import TfgreenError
from tfgreen.recipes.run.plan import plan

STEPS = [{"train": {"epochs": 2}}, {"prune_channels": {"ratio": 0.5}}, {"train": {"epochs": 4}}, "convert", "energy"]


def test_steps_with_their_time_and_nothing_trained(tmp_path):
    model = tasks.regression()
    before = [weight.copy() for weight in model.get_weights()]
    found = plan(model, tasks.sums(), STEPS, max_hours=1e-9)
    assert [step.name for step in found.steps] == [
        "original", "train", "prune_channels", "train-2", "convert", "energy", "measure",
    ]  # fmt: skip
    minutes = {step.name: step.minutes for step in found.steps}
    assert minutes["train-2"] == pytest.approx(minutes["train"]) and minutes["prune_channels"] == 0
    assert found.minutes == pytest.approx(sum(minutes.values())) and minutes["measure"] > 0.1
    assert found.over and "max_hours" in found.over[0] and "epochs: 4" in str(found._rows())
    assert all((one == other).all() for one, other in zip(before, model.get_weights()))
    assert found.to_dict()["recipe"] == "recipe" and "RunPlan" in repr(found)


def test_what_cannot_be_run_cannot_be_planned():
    with pytest.raises(TfgreenError, match="has no targets"):
        plan(tasks.classifier(), tasks.Data.from_arrays(tasks.points().train.x), STEPS)


def test_a_training_that_is_left_out_is_not_timed():
    found = plan(tasks.regression(), tasks.sums(), [{"train": {"choice": [None]}}, "convert"])
    assert [step.name for step in found.steps] == ["original", "convert", "measure"]
