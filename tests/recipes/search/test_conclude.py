"""What is said of a search at its end; its files are tested with tg.search."""

from __future__ import annotations

import dataclasses

import pytest

from tests.recipes.search.problems import problem
from tests.recipes.search.test_found import candidates
from tfgreen.errors import InvalidValueError
from tfgreen.recipes.search.conclude import conclude, improvement, trainings_worth
from tfgreen.recipes.search.problem import Stage
from tfgreen.recipes.search.spending import Spending


def test_an_improvement_is_better_than_the_recipes_own_settings_in_every_objective():
    own = {"width": 0.5, "quantization": "int8"}
    of = problem(bounds=(), start=(own,))
    first, better, other = candidates(of, (0.9, 50, 1), (0.95, 40, 1), (0.99, 60, 1))
    first = dataclasses.replace(first, draw=of.space.draw(own))
    better, other = (dataclasses.replace(one, draw={"width": 0.7, "quantization": 0}) for one in (better, other))
    assert improvement(of, [first, better, other], [better, other]).startswith("Candidate 2 is at least as good")
    assert improvement(of, [first, other], [first, other]).startswith("No candidate was found")
    assert improvement(of, [other], [other]) == ""


def test_epochs_are_told_as_whole_trainings():
    of = problem(bounds=())
    (whole,) = candidates(of, (0.9, 50, 1))
    whole = dataclasses.replace(whole, stages=(Stage({"accuracy": 0.9, "size": 50}, 0, 1, epochs=4),))
    assert trainings_worth([whole], Spending(1.0, None, None, 10)) == 2.5
    assert trainings_worth(candidates(of, (0.9, 50, 1)), Spending(1.0, None, None, 0)) is None


def test_a_search_in_which_all_failed_says_why(tmp_path):
    of = problem()
    (one,) = candidates(of, (0.9, 50, 1))
    failed = dataclasses.replace(one, outcome="failed", reason="the converter refuses it", stages=())
    with pytest.raises(InvalidValueError, match="No candidate could be made: the converter refuses it"):
        conclude(of, [failed], Spending(0, None, None, 0), None, None, "", tmp_path)
