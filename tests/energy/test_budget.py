from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg


def train(budget: tg.EnergyBudget, epochs: int = 50) -> keras.callbacks.History:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model.fit(np.ones((8, 4)), np.ones((8, 1)), epochs=epochs, verbose=0, callbacks=[budget])


def test_training_ends_when_the_budget_is_spent_and_another_does_not_begin():
    budget = tg.EnergyBudget(max_kwh=1e-9)
    history = train(budget)
    assert len(history.epoch) == 1 and budget.kwh >= 1e-9 and "1e-09 kWh is spent" in budget.spent
    assert history.history["energy_kwh"] == [pytest.approx(budget.kwh, rel=0.9)]
    with pytest.raises(ValueError, match="is spent.*new EnergyBudget"):
        train(budget)


def test_carbon_needs_a_region_and_ends_a_training_too():
    budget = tg.EnergyBudget(max_co2_kg=1e-12, region="DEU")
    assert len(train(budget).epoch) == 1 and "kg of CO2e" in budget.spent
    assert budget.co2_kg > 0


def test_a_budget_that_is_large_enough_changes_nothing():
    budget = tg.EnergyBudget(max_kwh=1.0)
    assert len(train(budget, 3).epoch) == 3 and 0 < budget.kwh < 1 and not budget.spent


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "max_kwh, max_co2_kg or both"),
        ({"max_kwh": 0}, "max_kwh.*> 0"),
        ({"max_co2_kg": -1, "region": "DEU"}, "max_co2_kg.*> 0"),
        ({"max_co2_kg": 1}, "region"),
        ({"max_kwh": 1, "region": "Atlantis"}, "Atlantis"),
    ],
    ids=str,
)
def test_bad_budgets_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tg.EnergyBudget(**options)
