"""Choices and ranges in settings."""

from __future__ import annotations

import pytest

from tfgreen.errors import TfgreenError
from tfgreen.recipes.recipe.choices import (
    Choice,
    Range,
    check_mapping,
    decided,
    open_places,
    read_choices,
    samples_of,
    written,
)

SETTINGS = {"a": {"choice": [1, 2]}, "b": {"c": {"range": [0.1, 0.9], "step": 0.2}}, "d": [3, 4]}


def test_they_are_read_written_and_found():
    read = read_choices(SETTINGS, "step")
    assert read == {"a": Choice((1, 2)), "b": {"c": Range(0.1, 0.9, step=0.2)}, "d": [3, 4]}
    assert written(read) == SETTINGS
    assert list(open_places(read, "s")) == [("s.a", Choice((1, 2))), ("s.b.c", Range(0.1, 0.9, step=0.2))]
    assert decided(read, "s", {"s.a": 2, "s.b.c": 0.5}) == {"a": 2, "b": {"c": 0.5}, "d": [3, 4]}


def test_samples_show_each_option_once_beside_first_ones():
    read = read_choices({"a": {"choice": [1, {"x": {"choice": [5, 6]}}]}, "b": {"range": [0, 9]}}, "s")
    samples = list(samples_of(read))
    assert samples[0] == {"a": 1, "b": 0} and {"a": 1, "b": 9} in samples
    assert {"a": {"x": 5}, "b": 0} in samples and {"a": {"x": 6}, "b": 0} in samples


def test_a_range_of_integers_is_whole():
    assert Range(1, 8).whole and not Range(1, 8.0).whole and not Range(1, 8, step=0.5).whole


@pytest.mark.parametrize(
    "value",
    [
        {"choice": []}, {"choice": 3}, {"choice": [1], "log": True}, {"range": [1]}, {"range": [2, 1]},
        {"range": [0, 1], "log": True}, {"range": [1, 2], "steps": 3}, {"range": [0, 1], "step": 0.3},
        {"range": ["a", "b"]}, {"range": [1, 2], "log": "yes"},
    ],
)  # fmt: skip
def test_what_is_none_is_refused_by_its_place(value):
    with pytest.raises(TfgreenError, match="prune.sparsity"):
        read_choices({"sparsity": value}, "prune")


def test_only_options_can_be_picked():
    with pytest.raises(TfgreenError, match="expected one of"):
        Choice((1, 2)).check("a", 1.0)
    with pytest.raises(TfgreenError, match="<= 0.9"):
        Range(0.1, 0.9).check("a", 1.0)
    with pytest.raises(TfgreenError, match="settings by name"):
        check_mapping("step 1", [1])
