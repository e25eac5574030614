"""The budget: bounds in their units."""

from __future__ import annotations

import dataclasses

import pytest

from tfgreen.config import Config
from tfgreen.errors import TfgreenError
from tfgreen.recipes.recipe.budget import OF_FILE, OF_RUN, Budget, BudgetOptions


def test_texts_become_numbers_and_round_trip():
    budget = Budget(max_drop="1%", max_size="100kB", max_latency="5ms", max_co2="50g")
    assert budget.given == {"max_drop": 0.01, "max_size": 1e5, "max_latency": 5.0, "max_co2": 0.05}
    assert Budget(**budget.given) == budget == Config.from_dict(budget.to_dict())
    assert not Budget().given


def test_every_bound_has_a_unit_and_an_option():
    fields = [field.name for field in dataclasses.fields(Budget)]
    assert fields == [*OF_FILE, *OF_RUN] == list(BudgetOptions.__annotations__)


@pytest.mark.parametrize(("bound", "value"), [("max_size", 0), ("max_drop", -0.1), ("max_hours", "0 min")])
def test_a_bound_that_nothing_can_keep_is_refused(bound, value):
    with pytest.raises(TfgreenError, match=bound):
        Budget(**{bound: value})


def test_a_bound_that_says_nothing_beside_another_is_refused():
    with pytest.raises(ValueError, match="max_gzip: expected less than max_size.*Leave one of them out"):
        Budget(max_size="100kB", max_gzip="200kB")


def test_no_drop_at_all_is_a_bound():
    assert Budget(max_drop=0).given == {"max_drop": 0.0}
