"""break_even: the count, its interval over every combination, and the three verdicts."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfgreen as tg
from tfgreen.energy.carbon.amount import EnergyAmount
from tfgreen.energy.inference import InferenceEnergy
from tfgreen.energy.prediction import EnergyPrediction

positive = st.floats(1e-6, 1e6)
ends = st.tuples(positive, positive).map(sorted)
shares = st.floats(0, 1)


def energy(middle, low=None, high=None, source="rapl"):
    interval = None if low is None else (low, high)
    return InferenceEnergy(middle, interval, None, (), 100, source, "a made reading", 1.0, None, None, "no region")


def test_the_count_is_the_cost_over_the_saving_and_days_follow():
    found = tg.break_even(0.010, 0.006, cost=3600, per_day=10_000)
    assert found.inferences == pytest.approx(900_000) and found.days == pytest.approx(90)
    assert (found.verdict, found.inferences_interval, found.days_interval) == ("paid back", None, None)
    assert "900,000" in str(found) and "Taken as exact" in str(found) and "at 10,000 inferences a day" in str(found)
    assert found.cost == EnergyAmount(3600.0, None, "given by the caller")


@given(ends, ends, ends, shares, shares, shares)
def test_every_combination_within_the_intervals_stays_within_the_interval(before, after, cost, b, a, c):
    at = [low + (high - low) * share for (low, high), share in ((before, b), (after, a), (cost, c))]

    class Run:
        joules, interval, source = at[2], tuple(cost), "rapl"

    found = tg.break_even(energy(at[0], *before), energy(at[1], *after), Run())
    if found.verdict == "never":
        assert before[1] <= after[0]
        return
    low, high = found.inferences_interval
    assert (found.verdict == "not shown") == (before[0] <= after[1]) == math.isinf(high)
    if at[0] > at[1]:
        assert low * (1 - 1e-9) <= at[2] / (at[0] - at[1]) <= high * (1 + 1e-9)
    assert low == pytest.approx(cost[0] / (before[1] - after[0]))


def test_never_and_not_shown_are_said():
    for after in (0.01, 0.02):
        never = tg.break_even(0.01, after, cost=1, per_day=10)
        assert (never.verdict, never.inferences, never.days) == ("never", None, None)
        assert repr(never) == "<BreakEven: never paid back>" and "Never: " in str(never)
    open_end = tg.break_even(energy(0.010, 0.009, 0.011), energy(0.009, 0.008, 0.010), 60.0, per_day=1000)
    assert open_end.verdict == "not shown" and open_end.inferences == pytest.approx(60_000)
    assert open_end.inferences_interval == (pytest.approx(20_000), math.inf) and "20,000 to never" in str(open_end)
    assert json.loads(json.dumps(open_end.to_dict(), allow_nan=False))["days_interval"] == [pytest.approx(20), None]
    worse = tg.break_even(energy(0.010, 0.009, 0.011), energy(0.0105, 0.0095, 0.0115), 60.0)
    assert (worse.verdict, worse.inferences) == ("not shown", None) and worse.plot()["marks"] == {}
    assert repr(worse) == "<BreakEven: not shown: the middle figures save nothing>"


def test_amounts_of_the_callers_own_and_estimates_are_taken():
    before, after = EnergyAmount(0.010, (0.009, 0.011), "own"), EnergyAmount(0.006, (0.005, 0.007), "own")
    found = tg.break_even(before, after, EnergyAmount(60.0, (50.0, 70.0), "own"))
    assert (found.before, found.after) == (before, after)
    assert found.inferences_interval == (pytest.approx(50 / 0.006), pytest.approx(70 / 0.002))
    large, small = (
        tg.estimate_energy(keras.Sequential([keras.Input((8,)), keras.layers.Dense(units)])) for units in (64, 8)
    )
    found = tg.break_even(large, small, 1.0)
    assert found.inferences == pytest.approx(1 / (large.joules - small.joules))
    assert found.before.source == "estimated for horowitz-45nm" and "do not compare" not in str(found)


def test_what_the_intervals_hold_is_said():
    class Run:
        joules, interval, source = 60.0, (30.0, 90.0), "estimate"

    before, after = (energy(x, 0.9 * x, 1.1 * x, source="estimate") for x in (0.010, 0.006))
    text = str(tg.break_even(before, after, Run()))
    assert "before and after, how well the figures repeat, not how accurate" in text
    assert "cost, the spread of the watts that it is estimated with." in text and "whatever" not in text
    Run.source = "rapl"
    assert "updates of its counter" in str(tg.break_even(before, after, [Run(), 5]))
    assert "hold only" not in str(tg.break_even(0.010, 0.006, 5))


def test_costs_of_every_kind_are_added():
    with tg.EnergyMeter(components=("cpu",), cpu_watts=20) as meter:
        sum(i * i for i in range(200_000))
    budget = tg.EnergyBudget(max_kwh=1)
    budget.kwh = 0.002
    footprint = tg.carbon_footprint(0.001, intensity_kg_per_kwh=0.4)
    found = tg.break_even(2.0, 1.0, [10, meter.reading, budget, footprint])
    assert found.inferences == pytest.approx(10 + meter.reading.joules + 7200 + 3600)
    assert found.cost.source == "given by the caller, estimate, EnergyBudget, CarbonFootprint"


def test_a_cost_in_kilowatt_hours_brings_its_interval():
    prediction = EnergyPrediction(0.001, (0.0005, 0.002), None, 60.0, epochs=10, after=1)
    assert tg.break_even(2.0, 1.0, prediction).inferences_interval == pytest.approx((1800, 7200))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1, 1), ValueError, "before.*> 0"),
        ((2, -1, 1), ValueError, "after.*> 0"),
        ((2, 1, -1), ValueError, "cost.*>= 0"),
        ((2, 1, []), ValueError, "cost.*empty list"),
        ((2, 1, math.nan), ValueError, "cost"),
        (("2", 1, 1), TypeError, "before: expected joules.*received str"),
        ((2, 1, ["1"]), TypeError, "cost: expected joules.*received str"),
        ((SimpleNamespace(joules=2.0, interval=(3.0, 4.0)), 1, 1), TypeError, "before: expected joules"),
        ((1, 1, SimpleNamespace(joules=2.0, interval=(3.0, 4.0))), ValueError, "cost, interval: expected the lowest"),
        ((2, energy(None, source="unavailable"), 1), ValueError, "after holds no energy reading: a made reading"),
        ((2, 1, tg.EnergyBudget(max_kwh=1)), ValueError, "cost holds no energy reading"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        tg.break_even(*arguments)


@pytest.mark.parametrize("per_day", [0, -1, math.inf])
def test_no_inferences_a_day_are_refused(per_day):
    with pytest.raises(ValueError, match="per_day.*> 0"):
        tg.break_even(2, 1, 1, per_day=per_day)


def test_figures_of_two_sources_are_not_compared_in_silence():
    assert "do not compare: rapl against estimate" in str(tg.break_even(energy(2), energy(1, source="estimate"), 1))


def test_the_lines_of_the_plot_cross_where_it_is_paid_back():
    plot = tg.break_even(energy(0.010, 0.009, 0.011), energy(0.006, 0.005, 0.007), 3600, per_day=10).plot()
    middle, low, high = plot["marks"]["break-even"]
    assert (middle, low, high) == pytest.approx((900, 600, 1800)) and plot["x_label"] == "thousand inferences"
    (_, start), (end, top) = plot["series"]["after, with its cost"]
    before = plot["series"]["before"][1][1] / end
    assert start + (top - start) / end * middle == pytest.approx(before * middle)
    assert [point[0] for point in plot["bands"]["before"]] == [0, end] and end >= high
    assert tg.break_even(1, 2, 3).plot()["title"] == "Break-even: never"
