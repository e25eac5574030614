"""What a search has used."""

from __future__ import annotations

import pytest

from tfgreen.recipes.search.problem import Stage
from tfgreen.recipes.search.spending import Spending, expected


def test_hours_that_processes_share_count_once_and_their_energy_twice():
    stages = [Stage({}, 0, 3600, 1, 0.5, 0.2), Stage({}, 1800, 5400, 3, 0.25, 0.1), Stage({}, 9000, 9360, 0, 0.25, 0.1)]
    used = Spending.of(stages)
    assert used.hours == pytest.approx(1.6) and used.epochs == 4
    assert used.kwh == pytest.approx(1.0) and used.co2e_kg == pytest.approx(0.4)


def test_the_first_limit_that_is_reached_ends_the_search():
    used = Spending(1.0, 0.5, None, 30)
    assert used.spent({"max_hours": 2.0, "max_kwh": 1.0, "max_co2": 1.0}) == ""
    assert used.spent({"max_kwh": 0.5}) == "max_kwh of the search, 500 Wh, is spent: it used 500 Wh."
    assert used.spent({"max_epochs": 30}) == "max_trainings of the search, 30 epochs, is spent: it used 30 epochs."


def test_what_is_not_known_of_one_stage_is_not_known_of_all():
    assert Spending.of([Stage({}, 0, 1, 0, 0.5), Stage({}, 1, 2)]).kwh is None
    assert Spending.of([]).kwh == 0


def test_what_a_stage_will_cost_is_so_much_in_any_case_and_so_much_an_epoch():
    stages = [Stage({}, 0, 360, 0, 0.1), Stage({}, 400, 760, 0, 0.1), Stage({}, 800, 1880, 2, 0.5)]
    ahead = expected(stages, 10)
    assert ahead.hours == pytest.approx(0.1 + 10 * 0.1) and ahead.kwh == pytest.approx(0.1 + 10 * 0.2)
    assert ahead.co2e_kg is None and ahead.epochs == 10
    assert expected([], 3) == Spending(0.0, None, None, 3)


def test_what_would_go_beyond_a_limit_is_told():
    used, more = Spending(1.0, 0.5, None, 30), Spending(0.5, 0.1, None, 10)
    assert used.too_much(more, {"max_hours": 1.5, "max_epochs": 40, "max_co2": 0.0}) == ""
    told = used.too_much(more, {"max_hours": 1.4})
    assert told == (
        "max_hours of the search, 1.4 h, leaves too little: it used 1 h, and the next step takes about 30 min."
    )
