"""The search for a target, on costs that are functions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.recipes.channel_targets import Unreachable, nearest, reach
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

    widths, cost = reach(selection, 3 * 90 + 51, measured, channels)
    assert sum(widths) == 90 and cost == 320
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


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("is_measured", [False, True])
def test_single_groups_make_up_for_what_coarse_steps_leave(share, is_measured):
    """A group whose steps cost much more than those of the others neither overshoots nor stays in the way."""
    names, prices = ("a", "b", "c", "d"), np.array([100, 1, 2, 5])
    stack = [layers.Dense(64, name=name) for name in names]
    groups = channel_groups(keras.Sequential([keras.Input((3,)), *stack, layers.Dense(2)]))
    rng = np.random.default_rng(0)
    selection = ChannelSelection(groups, [*(rng.random(64) for _ in names), None], "global", 0.75, 8)
    calls = []

    def count(removed: Removed) -> float:
        gone = {group.name: len(channels) for group, channels in removed}
        return float(sum((64 - gone.get(name, 0)) * price for name, price in zip(names, prices)))

    def cost(removed: Removed) -> float:
        calls.append(1)
        return 4 * count(removed) + 1000

    target = share * 64 * prices.sum()
    asked = (4 * target + 1000, cost, count) if is_measured else (target, count)
    widths, found = reach(selection, *asked)
    reached = (found - 1000) / 4 if is_measured else found
    every = np.array(np.meshgrid(*[np.arange(16, 65, 8)] * 4)).reshape(4, -1)
    costs = prices @ every
    assert reached == prices @ widths <= target and len(calls) <= 16
    assert reached >= 0.97 * costs[costs <= target].max()
    more = selection.wider(widths)
    assert is_measured or all(prices @ wider > target for _, _, wider in more)


def test_what_is_nearest_takes_the_least_important_first():
    stack = [layers.Dense(8, name="a"), layers.Dense(8, name="b")]
    groups = channel_groups(keras.Sequential([keras.Input((3,)), *stack, layers.Dense(2)]))
    selection = ChannelSelection(groups, [np.arange(8.0), 10 + np.arange(8.0), None], "global", 0.75, 1)
    assert nearest(selection, (8, 8), (2, 2), 12, sum) == (4, 8)
