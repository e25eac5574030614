"""Steps: their forms, their names, their order."""

from __future__ import annotations

import pytest

from tfgreen.errors import TfgreenError
from tfgreen.recipes.recipe.choices import Choice
from tfgreen.recipes.recipe.steps import Step, check_order, read_step, step_names


def steps(*given):
    return [read_step(step, number) for number, step in enumerate(given, 1)]


def test_three_ways_to_write_the_defaults():
    assert read_step("convert", 1) == read_step({"convert": None}, 1) == read_step({"convert": {}}, 1)


def test_a_step_that_is_left_out_stays_so():
    step = read_step({"prune": {"choice": [None]}}, 1)
    assert step == Step("prune", None) and read_step(step.to_dict(), 1) == step


def test_an_open_step_is_checked_in_every_option():
    step = read_step({"prune": {"choice": [None, {"sparsity": {"range": [0.1, 0.9]}}]}}, 1)
    assert step.is_open and isinstance(step.settings, Choice)
    with pytest.raises(TfgreenError, match="sparsity"):
        read_step({"prune": {"sparsity": {"range": [0.1, 1.9]}}}, 1)
    with pytest.raises(TfgreenError, match="step 3: expected one verb"):
        read_step({"prune": {}, "train": {}}, 3)


def test_names_are_numbered_by_verb():
    assert step_names(steps("train", "prune", "train", "convert")) == ["train", "prune", "train-2", "convert"]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["train"], "No step of the recipe makes a file"),
        (["quantize", "prune_channels", "convert"], "prune_channels stands after quantize"),
        (["prune", "prune", "convert"], "prune stands twice"),
        (["verify", "convert"], "verify stands before there is a file"),
        (("convert", "train", "verify"), "train stands behind the last convert.*another convert behind train"),
        (("cluster", "prune", "train", "convert"), "prune stands after cluster.*preserve_sparsity"),
        (("remove_masked_channels", "convert"), "no channel is masked.*Put mask_channels before it"),
    ],
)
def test_an_order_that_cannot_be_carried_out(given, match):
    with pytest.raises(TfgreenError, match=match):
        check_order(steps(*given))


def test_an_order_that_can():
    check_order(steps("prune", "strip", "prune", "strip", "prune_channels", "quantize", "convert", "verify"))
    check_order(steps("convert", "train", "convert", "verify"))
    check_order(steps({"cluster": {"preserve_sparsity": True}}, "prune", "train", "convert"))
    check_order(steps({"quantize": {"choice": [None, {}]}}, "equalize", "convert"))  # as it may be left out
