"""The account of a run."""

from __future__ import annotations

import json

import pytest

from tfgreen.recipes.recipe.budget import Budget
from tfgreen.recipes.run.account import Account, Spent, exceeded, run_limits


def test_what_is_unknown_stays_unknown():
    total = Spent(1.0, 2.0, None) + Spent(3.0, 4.0, 5.0, "rapl")
    assert (total.seconds, total.joules, total.co2e_kg, total.source) == (4.0, 6.0, None, "rapl")


@pytest.mark.parametrize(
    ("bound", "word"), [({"max_hours": 1}, "time"), ({"max_kwh": 1}, "energy"), ({"max_co2": "1g"}, "emissions")]
)
def test_a_budget_is_spent_where_it_is_reached(bound, word):
    spent = Spent(3600.0, 3.6e6, 1e-3)
    assert word in exceeded(Budget(**bound), spent)
    assert not exceeded(Budget(**bound), Spent(3599.0, 3.5e6, 0.9e-3)) and not exceeded(Budget(), spent)
    (limit,) = run_limits(Budget(**bound), Spent(7200.0, 7.2e6, 2e-3))
    assert limit.holds is False and limit.name == f"{word} of the run"
    (unknown,) = run_limits(Budget(max_kwh=1), Spent(1.0, None, None))
    assert unknown.holds is None


def test_attempts_that_were_cut_off_are_counted(tmp_path):
    file = tmp_path / "spent.json"
    file.write_text(json.dumps(Spent(100.0, 50.0, None, "estimate").to_dict()))
    with Account(Spent(1000.0, 500.0, 0.0), file) as account:
        assert 100 < account.step.seconds < 200 and 1100 < account.run.seconds < 1200
    with pytest.raises(KeyboardInterrupt), Account(Spent(), file) as account:
        raise KeyboardInterrupt
    assert json.loads(file.read_text())["seconds"] > 100
