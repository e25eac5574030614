"""What a search has used."""

from __future__ import annotations

import pytest

from tfgreen.recipes.search.problem import Stage
from tfgreen.recipes.search.spending import Spending


def test_hours_that_processes_share_count_once_and_their_energy_twice():
    stages = [Stage({}, 0, 3600, 1, 0.5, 0.2), Stage({}, 1800, 5400, 3, 0.25, 0.1), Stage({}, 9000, 9360, 0, 0.25, 0.1)]
    used = Spending.of(stages)
    assert used.hours == pytest.approx(1.6) and used.epochs == 4
    assert used.kwh == pytest.approx(1.0) and used.co2e_kg == pytest.approx(0.4)


def test_the_first_limit_that_is_reached_ends_the_search():
    used = Spending(1.0, 0.5, None, 30)
    assert used.spent({"max_hours": 2.0, "max_kwh": 1.0, "max_co2": 1.0}) == ""
    assert used.spent({"max_kwh": 0.5}) == "max_kwh of the search, 500 Wh, is spent: it used 500 Wh."
    assert "30 epochs" in used.spent({"max_epochs": 30})


def test_what_is_not_known_of_one_stage_is_not_known_of_all():
    assert Spending.of([Stage({}, 0, 1, 0, 0.5), Stage({}, 1, 2)]).kwh is None
    assert Spending.of([]).kwh == 0
