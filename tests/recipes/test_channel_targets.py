"""The search for a target, on costs that are functions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.recipes.channel_targets import Unreachable, reach
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.channel_selection import ChannelSelection, Removed


@pytest.fixture(scope="module")
def selection() -> ChannelSelection:
    stack = [layers.Dense(100, name="a"), layers.Dense(60, name="b"), layers.Dense(2)]
    groups = channel_groups(keras.Sequential([keras.Input((3,)), *stack]))
    rng = np.random.default_rng(0)
    return ChannelSelection(groups, [rng.random(100), rng.random(60), None], "global", 0.75, 1)


def channels(removed: Removed) -> int:
    return 160 - sum(len(found) for _, found in removed)


@pytest.mark.parametrize("target", [40, 41, 77, 100, 159])
def test_the_largest_that_is_no_larger_than_the_target(selection, target):
    _, cost = reach(selection, target, channels)
    assert cost == target


def test_an_estimate_saves_measurements(selection):
    calls = []

    def measured(removed: Removed) -> float:
        calls.append(channels(removed))
        return 3.0 * channels(removed) + 50

    share, cost = reach(selection, 3 * 90 + 51, measured, channels)
    assert channels(selection.removed(share)) == 90 and cost == 320
    assert len(calls) <= 8 and len(set(calls)) == len(calls)


def test_a_tolerance_ends_the_search_early_and_lets_a_cost_be_just_above(selection):
    calls = []

    def stepped(removed: Removed) -> float:
        calls.append(1)
        return 50.0 * (channels(removed) // 50)  # 0, 50, 100 or 150

    assert reach(selection, 98, stepped, channels, tolerance=0.1)[1] == 100
    assert reach(selection, 98, stepped, channels)[1] == 50
    assert reach(selection, 60, channels, channels, tolerance=0.2)[1] in range(54, 67)


def test_a_target_that_cannot_be_reached_says_what_can(selection):
    with pytest.raises(Unreachable) as caught:
        reach(selection, 39, channels)
    assert caught.value.least == 40
    assert reach(selection, 39, channels, channels, tolerance=0.1)[1] == 40
