"""Which channels go: orders, rounding, limits, and what is kept."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from tests import zoo
from tests.surgery.cases import Gated
from tfgreen.model.paths import walk
from tfgreen.surgery.channel_groups import ChannelGroups, channel_groups
from tfgreen.surgery.channel_selection import (
    ChannelSelection,
    kept_groups,
    residual_groups,
    rounded_width,
    structure_of,
    width_step,
)


def chain(*widths: int) -> ChannelGroups:
    stack = [layers.Dense(width, name=f"d{i}") for i, width in enumerate(widths)]
    return channel_groups(keras.Sequential([keras.Input((3,)), *stack, layers.Dense(2, name="out")]))


def select(groups, scores, scope="uniform", max_ratio=0.9, round_to=1, **more):
    padded = [*scores, *[None] * (len(groups) - len(scores))]
    return ChannelSelection(groups, padded, scope, max_ratio, round_to, **more)


def gone(selection: ChannelSelection, share: float) -> dict[str, list[int]]:
    return {group.name: sorted(channels.tolist()) for group, channels in selection.removed(selection.widths(share))}


def test_uniform_takes_the_same_share_of_each_group():
    scores = [np.array([3.0, 1.0, 2.0, 4.0]), np.array([10.0, 30.0, 20.0, 40.0, 50.0, 60.0])]
    selection = select(chain(4, 6), scores)
    assert gone(selection, 0.5) == {"d0": [1, 2], "d1": [0, 1, 2]}
    assert gone(selection, 0.26) == {"d0": [1], "d1": [0]}
    assert gone(selection, 0.0) == {}


def test_global_takes_the_least_of_groups_of_equal_structure():
    groups = chain(4, 4)  # both are read by a dense layer
    selection = select(groups, [np.array([1.0, 2.0, 3.0, 9.0]), np.array([5.0, 6.0, 7.0, 8.0])], "global")
    assert gone(selection, 0.5) == {"d0": [0, 1, 2], "d1": [0]}


def test_global_compares_no_groups_of_other_structure():
    x = inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(4, 1, name="conv")(x)
    x = layers.Flatten()(layers.BatchNormalization()(layers.Conv2D(4, 1, name="normed")(x)))
    groups = channel_groups(keras.Model(inputs, layers.Dense(2)(x)))
    known = dict(walk(groups.analysis.trace.model))
    assert len({structure_of(group, known) for group in groups}) == 3
    selection = select(groups, [np.arange(4.0), 100 + np.arange(4.0)], "global")
    assert gone(selection, 0.5) == {"conv": [0, 1], "normed": [0, 1]}


def test_sensitivity_takes_what_adds_least_error_for_what_it_saves():
    scores = [np.arange(4.0), np.arange(4.0)]
    errors = [np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.array([0.0, 2.0, 4.0, 6.0, 8.0])]
    cheap = select(chain(4, 4), scores, "sensitivity", errors=errors, savings=[1.0, 1.0])
    assert gone(cheap, 0.5) == {"d0": [0, 1, 2]}  # the fourth stays: max_ratio
    dear = select(chain(4, 4), scores, "sensitivity", errors=errors, savings=[1.0, 3.0])
    assert gone(dear, 0.5) == {"d1": [0, 1, 2]}


def test_a_group_keeps_what_max_ratio_leaves_it_and_what_is_fixed():
    selection = select(chain(8), [np.arange(8.0)], max_ratio=0.75)
    assert gone(selection, 1.0) == {"d0": [0, 1, 2, 3, 4, 5]}
    inputs = keras.Input((3,))
    x = layers.Dense(8, name="wide")(inputs)
    model = keras.Model(inputs, [layers.Dense(2)(x[:, :6]), x[:, 6:]])
    groups = channel_groups(model)
    scores = [np.zeros(group.size) if group.removable else None for group in groups]
    selection = ChannelSelection(groups, scores, "uniform", 0.9, 1)
    for group, channels in selection.removed(selection.widths(1.0)):
        assert not any(group.fixed[channel] for channel in channels)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 300), st.integers(0, 300), st.integers(1, 300), st.sampled_from([1, 2, 4, 8, 16]))
def test_rounded_widths_are_multiples_within_the_limits(size, kept, least, step):
    kept, least = min(kept, size), min(least, size)
    width = rounded_width(size, kept, least, step)
    assert least <= width <= size and (width % step == 0 or width == size)
    if width < size:
        assert width - kept <= max(step / 2, least + step - kept)


@pytest.mark.parametrize(("width", "step"), [(64, 8), (9, 8), (8, 4), (6, 4), (4, 2), (2, 1), (1, 1)])
def test_a_narrow_group_is_rounded_to_less(width, step):
    groups = chain(width)
    assert width_step(groups[0], dict(walk(groups.analysis.trace.model)), 8) == step


def test_heads_are_rounded_by_the_width_that_they_make():
    inputs = keras.Input((5, 6))
    model = keras.Model(inputs, layers.Dense(2)(layers.MultiHeadAttention(12, 8)(inputs, inputs)))
    groups = channel_groups(model)
    known = dict(walk(groups.analysis.trace.model))
    heads = next(group for group in groups if group.size == 12)
    assert width_step(heads, known, 8) == 1 and width_step(heads, known, 16) == 2


def test_a_selection_removes_no_fewer_channels_for_a_larger_share():
    groups = channel_groups(zoo.separable())
    rng = np.random.default_rng(0)
    selection = ChannelSelection(groups, [rng.random(group.size) for group in groups], "global", 0.75, 4)
    found = [selection.removed(selection.widths(share)) for share in selection.shares]
    counts = [sum(len(channels) for _, channels in removed) for removed in found]
    assert counts == sorted(counts) and counts[0] == 0 < counts[-1]


def test_steps_of_single_groups_in_their_order():
    selection = select(chain(16, 12, 8), [np.arange(16.0), 2.5 + np.arange(12), np.arange(8.0)], "global", 0.75, 4)
    assert [(number, widths) for _, number, widths in selection.narrower((16, 12, 8))] == [
        (0, (12, 12, 8)), (2, (16, 12, 4)), (1, (16, 8, 8)),
    ]
    assert [(number, widths) for _, number, widths in selection.wider((4, 8, 8))] == [(0, (8, 8, 8)), (1, (4, 12, 8))]
    assert selection.narrower((4, 4, 4)) == [] and selection.wider((16, 12, 8)) == []
    when = [course for _, _, course in selection.course((4, 8, 8))]
    assert when[0][-1] == 1 and when[0][0] < when[1][0] < 1 and [len(part) for part in when] == [12, 4]


def test_patterns_keep_what_a_layer_makes_not_what_it_reads():
    groups = chain(4, 6)
    assert kept_groups(groups, ["d1"]) == {1} and kept_groups(groups, ["d*"]) == {0, 1}
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(Gated(6, name="block")(layers.Dense(8, name="first")(inputs))))
    groups = channel_groups(model)
    inside = {n for n, group in enumerate(groups) if any(e.layer.startswith("block") for e in group.edges)}
    assert kept_groups(groups, ["block"]) <= inside and len(kept_groups(groups, ["block"])) == 2


def test_streams_that_residual_blocks_add_to():
    x = inputs = keras.Input((6, 6, 3))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="stem")(x))
    y = layers.BatchNormalization()(layers.Conv2D(16, 1, name="expand")(x))
    y = layers.DepthwiseConv2D(3, padding="same")(y)
    x = layers.Add()([x, layers.Conv2D(8, 1, name="project")(y)])
    groups = channel_groups(keras.Model(inputs, layers.Conv2D(12, 1, name="last")(x)))
    assert [groups[number].name for number in residual_groups(groups)] == ["stem"]
    assert residual_groups(chain(4, 6)) == set()


def test_patterns_keep_what_a_layer_without_weights_returns():
    x = inputs = keras.Input((6, 6, 3))
    x = layers.ReLU(name="act")(layers.Conv2D(8, 3, padding="same", name="stem")(x))
    y = layers.Conv2D(8, 3, padding="same", name="beside")(layers.Conv2D(4, 1, name="inner")(x))
    x = layers.Add(name="add")([x, y])
    both = layers.Concatenate(name="both")([layers.Conv2D(5, 1, name="c5")(x), layers.Conv2D(7, 1, name="c7")(x)])
    flat = layers.Flatten(name="flat")(both)
    groups = channel_groups(keras.Model(inputs, layers.Dense(2, name="out")(flat)))
    names = {group.name: number for number, group in enumerate(groups)}
    assert len(names) == 5
    for pattern in ("act", "add", "stem", "beside"):
        assert kept_groups(groups, [pattern]) == {names["stem"]}
    assert kept_groups(groups, ["inner"]) == {names["inner"]}
    for pattern in ("both", "flat"):
        assert kept_groups(groups, [pattern]) == {names["c5"], names["c7"]}


def test_patterns_keep_what_a_nested_model_returns():
    inner_in = keras.Input((4,))
    inner = keras.Model(inner_in, layers.ReLU(name="act")(layers.Dense(8, name="dense")(inner_in)), name="inner")
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, layers.Dense(2)(layers.Dense(6, name="last")(inner(inputs))))
    groups = channel_groups(outer)
    for pattern in ("inner", "inner/act", "inner/dense"):
        assert {groups[number].name for number in kept_groups(groups, [pattern])} == {"inner/dense"}
