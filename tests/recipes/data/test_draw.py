from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.recipes.data.draw import SplitConfig, draw


@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.floats(0.01, 0.5), st.integers(0, 9))
def test_each_class_gives_its_share_and_keeps_a_sample(labels, share, seed):
    classes = np.array(labels)
    rows, by_class = draw(len(classes), share, seed, classes)
    assert len(set(rows)) == len(rows) >= 1 and 0 <= rows.min() and rows.max() < len(classes)
    assert len(rows) <= max(1, len(classes) // 2)
    if by_class:
        several = [label for label in set(labels) if labels.count(label) > 1]
        count = sum(labels.count(label) for label in several)
        for label in set(labels):
            drawn, there = (classes[rows] == label).sum(), labels.count(label)
            assert drawn < there  # one stays
            if label in several:
                assert abs(drawn - len(rows) * there / count) <= 1


def test_a_seed_draws_the_same_and_another_seed_others():
    first, again, other = (draw(1000, 0.1, seed, np.arange(1000) % 10)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert len(first) == 100 and not np.array_equal(first, other)
    np.testing.assert_array_equal(np.bincount(first % 10), np.full(10, 10))


def test_integers_that_are_no_classes_are_drawn_alike():
    rows, by_class = draw(50, 0.2, 0, np.arange(50))
    assert len(rows) == 10 and not by_class


@pytest.mark.parametrize(
    "options, message",
    [
        ({"validation_share": 0.6}, "validation_share: expected a number >= 0 and <= 0.5, received 0.6"),
        ({"seed": -1}, "seed: expected an integer >= 0"),
        ({"test_shar": 0.1}, "'test_shar' is no field of SplitConfig. Did you mean 'test_share'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        SplitConfig(**options)


def test_one_sample_cannot_be_split():
    with pytest.raises(ValueError, match="train: expected two samples or more to draw a split from, received 1"):
        draw(1, 0.1, 0)
