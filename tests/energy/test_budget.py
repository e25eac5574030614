from __future__ import annotations

import dataclasses
import gc
import threading
import time

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
    assert history.history["budget_used_kwh"] == [pytest.approx(budget.kwh, rel=0.9)]
    with pytest.raises(ValueError, match="is spent.*new EnergyBudget"):
        train(budget)


def test_carbon_needs_a_region_and_ends_a_training_too():
    budget = tg.EnergyBudget(max_co2_kg=1e-12, region="DEU")
    assert len(train(budget).epoch) == 1 and "kg of CO2e" in budget.spent
    assert budget.co2_kg > 0


def test_a_budget_that_is_large_enough_changes_nothing():
    budget = tg.EnergyBudget(max_kwh=1.0)
    assert len(train(budget, 3).epoch) == 3 and 0 < budget.kwh < 1 and not budget.spent


class Burning(keras.callbacks.Callback):
    """Moves the counters, and may raise."""

    def __init__(self, counters, fails: bool = False) -> None:
        super().__init__()
        self.counters, self.fails = counters, fails

    def on_train_batch_begin(self, batch, logs=None):
        self.counters.burn(36, 36)
        if self.fails:
            raise RuntimeError("it failed")


def samplers() -> int:
    return sum("tfgreen energy" in thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("train", [tg.fit, lambda model, data, **options: model.fit(*data, **options)])
def test_a_training_that_raises_leaves_nothing_running_and_the_next_one_is_measured(train, rapl):
    before, counters = samplers(), rapl()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = np.ones((8, 4)), np.ones((8, 1))
    budget, logger = tg.EnergyBudget(max_kwh=1.0), tg.EnergyLogger(verbose=False)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="it failed"):
            train(model, data, verbose=0, callbacks=[logger, budget, Burning(counters, fails=True)])
    assert samplers() == before if train is tg.fit else samplers() <= before + 1  # Keras tells nobody that it raises
    train(model, data, verbose=0, callbacks=[logger, budget, Burning(counters)])
    assert budget.kwh == pytest.approx(72 / 3.6e6) and samplers() == before


def test_a_budget_that_nobody_holds_stops_measuring(rapl):
    before, _ = samplers(), rapl()
    budget = tg.EnergyBudget(max_kwh=1.0)
    budget.on_train_begin()
    assert samplers() == before + 1
    del budget
    gc.collect()
    until = time.monotonic() + 5
    while samplers() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert samplers() == before


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


def test_a_budget_that_can_no_longer_be_read_ends_the_training(monkeypatch):
    budget = tg.EnergyBudget(max_kwh=1.0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    lap, laps = budget._laps.lap, []

    def fails_later():
        laps.append(lap())
        return laps[0] if len(laps) == 1 else dataclasses.replace(laps[0], joules=None, how="unplugged", duration_s=1.0)

    monkeypatch.setattr(budget._laps, "lap", fails_later)
    history = model.fit(np.ones((64, 4)), np.ones((64, 1)), epochs=9, verbose=0, callbacks=[budget]).history
    assert len(history["loss"]) == 2 and "cannot be kept" in budget.spent and "unplugged" in budget.spent
