from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgreen.surgery.channel_labels import ChannelLabels, reshaped


def test_what_is_united_with_what_is_fixed_is_fixed_for_the_first_reason():
    labels = ChannelLabels()
    x, y, z = labels.new(3), labels.new(3), labels.new(3)
    labels.fix(x[:1], "first")
    labels.unite(x, y, "")
    labels.fix(y[:2], "second")
    labels.unite(z, None, "z")
    reasons = labels.reasons()
    assert [reasons.get(root) for root in labels.roots(y).tolist()] == ["first", "second", None]
    assert [reasons.get(root) for root in labels.roots(z).tolist()] == ["z"] * 3


def factors(number: int, draw: st.DrawFn) -> tuple[int, ...]:
    """A number as a product of sizes, at random."""
    found = []
    while number > 1:
        size = draw(st.sampled_from([n for n in range(1, number + 1) if number % n == 0]))
        found.append(size)
        number //= size
        if len(found) == 4:
            found.append(number)
            break
    return tuple(found) or (1,)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_reshape_moves_whole_channels(data):
    """Removing the channels with one label before a reshape, or after it, leaves the same values in the same order."""
    count = data.draw(st.sampled_from([6, 12, 16, 24, 36]))
    old, new = factors(count, data.draw), factors(count, data.draw)
    axis = data.draw(st.integers(0, len(old) - 1))
    labels = ChannelLabels()
    axes = tuple(labels.new(size) if i == axis else None for i, size in enumerate(old))
    fixed: list[object] = []
    after = reshaped(axes, old, new, labels, fixed.append)
    assert not fixed and len(after) == len(new)
    carried = [i for i, part in enumerate(after) if part is not None]
    assert len(carried) == 1 or old[axis] == 1
    if not carried:
        return
    roots = labels.roots(axes[axis])
    gone = data.draw(st.sampled_from(sorted(set(roots.tolist()))))
    values = np.arange(math.prod(old)).reshape(old)
    before = np.compress(roots != gone, values, axis).ravel()
    got = np.compress(labels.roots(after[carried[0]]) != gone, values.reshape(new), carried[0]).ravel()
    np.testing.assert_array_equal(got, before)


def test_open_sizes_keep_what_stands_behind_them_apart():
    labels = ChannelLabels()
    x = labels.new(4)
    fixed: list[object] = []
    assert reshaped((None, None, x), (None, 3, 4), (None, 4), labels, fixed.append)[1] is not None and not fixed
    reshaped((None, x, None), (None, 4, 3), (None, 2, 3), labels, fixed.append)
    assert fixed == [x]
