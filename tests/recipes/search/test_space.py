"""Draws and the candidates they mean."""

from __future__ import annotations

import math

import pytest

from tfgreen.errors import InvalidValueError
from tfgreen.recipes.recipe.choices import Choice, Range
from tfgreen.recipes.search.space import Space

NESTED = {
    "prune": Choice((None, {"sparsity": Choice((0.9, 0.5)), "frequency": Range(1, 4)})),
    "rate": Choice((3e-3, 1e-3)),
}


def test_what_is_within_an_option_is_needed_once_it_is_chosen():
    space = Space(NESTED)
    assert list(space.places) == ["prune", "prune.sparsity", "prune.frequency", "rate"]
    off = {"prune": 0, "prune.sparsity": 1, "prune.frequency": 3, "rate": 0}
    assert space.settings(off) == {"prune": None, "rate": 1e-3}
    on = space.settings({**off, "prune": 1})
    assert on == {"prune": NESTED["prune"].options[1], "prune.sparsity": 0.9, "prune.frequency": 3, "rate": 1e-3}
    for settings in (on, space.settings(off)):
        assert space.settings(space.draw(settings)) == settings


def test_candidates_are_counted():
    assert Space(NESTED).size == (1 + 2 * 4) * 2
    assert Space({"a": Range(0.0, 1.0)}).size == math.inf
    assert Space({"a": Range(0.0, 1.0, step=0.25)}).size == 5


def test_numbers_are_in_their_order_and_other_options_as_they_stand():
    places = Space({"a": Choice((3, 1, 2)), "b": Choice(("z", "a")), "c": Choice((True, False))}).places
    assert [place.options for place in places.values()] == [(1, 2, 3), ("z", "a"), (True, False)]


def test_one_path_in_two_options_has_two_names():
    space = Space({"a": Choice((Range(0, 1), Range(5, 9)))})
    assert list(space.places) == ["a", "a of option 1", "a of option 2"]
    assert space.settings({"a": 1, "a of option 1": 0, "a of option 2": 7}) == {"a": Range(5, 9), "a of option 2": 7}


def test_bad_input_is_named():
    with pytest.raises(InvalidValueError, match="space: expected settings to decide"):
        Space({})
    with pytest.raises(InvalidValueError, match="rate: expected one of"):
        Space(NESTED).draw({"rate": 5.0})
