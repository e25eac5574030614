"""The time that is left."""

from __future__ import annotations

import pytest

from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.run.pace import Pace, weights


def test_trainings_weigh_by_what_they_train():
    steps = [{"train": {"epochs": 2}}, {"prune_channels": {"ratio": 0.5}}, {"train": {"epochs": 2}}, "quantize",
             {"train": {"epochs": 2}}, {"distill": {"epochs": 2}}, "convert"]
    found = weights(Recipe(steps).steps)
    assert found == pytest.approx([2, 0, 1, 0, 1.17, 1.67, 0])


def test_masked_channels_count_until_they_are_taken_out():
    mask = {"mask_channels": {"target_parameters": 0.5}}
    steps = [mask, {"train": {"epochs": 2}}, "remove_masked_channels", {"train": {"epochs": 2}}, "convert"]
    assert weights(Recipe(steps).steps) == pytest.approx([0, 2, 0, 1, 0])


def test_nothing_is_said_before_anything_is_known():
    pace = Pace([0.0, 4.0, 2.0])
    assert pace.left(0, 1, 100) == ""
    pace.finished(0, 100)
    assert pace.left(1, 0, 5) == "" and pace.left(1, 0.5, 60) == "about 2 min of training left in all"
    pace.finished(1, 8)
    assert pace.left(2, 0.5, 2) == "about 2 s of training left in all"
