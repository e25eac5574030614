"""The settings of steps that have no config of their own."""

from __future__ import annotations

import pytest

from tfgreen.errors import TfgreenError
from tfgreen.recipes.recipe.step_settings import DistillStep, PruneStep, TargetStep, TrainStep


def test_a_sparsity_is_a_schedule():
    assert PruneStep(sparsity=0.75).schedule.sparsity_at(0) == 0.75


def test_one_augmentation_is_a_list_of_one():
    assert TrainStep(augment="flip") == TrainStep(augment=["flip"]) and TrainStep(augment="flip").augment == ("flip",)


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (TrainStep, {"optimizer": "adem"}), (TrainStep, {"learning_rate": 0}), (TrainStep, {"augment": ["turn"]}),
        (TrainStep, {"final_share": 1.5}), (TrainStep, {"warm_up": 1.0}),
        (TrainStep, {"epochs": 0}), (DistillStep, {"temperature": 0}), (DistillStep, {"student_loss_weight": 1.5}),
        (PruneStep, {"sparsity": 1.0}), (TargetStep, {"target": "dsp"}),
    ],
)  # fmt: skip
def test_wrong_values_name_the_setting(config, wrong):
    [name] = wrong
    with pytest.raises(TfgreenError, match=name):
        config(**wrong)
