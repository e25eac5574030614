"""The joules of one call, from windows of many, and whether two differ."""

from __future__ import annotations

import os
import time

import pytest

from tfgreen.energy.inference import REPEATABILITY, WINDOWS, EnergyComparison, InferenceEnergy, compare, measure_in_turn
from tfgreen.energy.meter import EnergyMeter


def spin(seconds):
    deadline = time.process_time() + seconds
    while time.process_time() < deadline:
        pass


def measure(call, seconds=0.1, **options):
    return measure_in_turn({"": call}, EnergyMeter(**options), seconds)[""]


def made_up(*windows):
    joules = sorted(windows)[len(windows) // 2] if windows else None
    interval = (min(windows), max(windows)) if windows else None
    return InferenceEnergy(joules, interval, None, windows, 70, "estimate", "how", 1.0, None, None, "no region")


def test_energy_of_a_call_is_the_median_over_windows(no_rapl):
    calls = []
    energy = measure(lambda: calls.append(spin(0.002)), 0.3, region="DEU", components=("cpu",), cpu_watts=1000)
    assert energy.runs == len(calls) - 2  # one warms up, one tells how slow the counter is
    assert energy.duration_s >= 0.3 and len(energy.windows) == WINDOWS
    assert energy.joules_per_inference == pytest.approx(0.002 * 1000 / os.cpu_count(), rel=0.25)
    joules = energy.joules_per_inference
    low, high = min(*energy.windows, joules * (1 - REPEATABILITY)), max(*energy.windows, joules * (1 + REPEATABILITY))
    assert energy.interval == (low, high)
    assert energy.joules_per_inference == sorted(energy.windows)[3]
    assert energy.source == "estimate" and f"{energy.runs} runs in 7 windows" in energy.how
    value = f"{energy.joules_per_inference:.3g} J ("
    assert repr(energy).startswith(f"<InferenceEnergy: {value}")
    assert value in str(energy).splitlines()[1] and "CO2e per inference" in str(energy).splitlines()[2]
    assert energy._repr_html_().count("<tr>") == 1 + 2 and energy.to_dict()["interval"] == list(energy.interval)
    assert energy.co2e_kg_per_inference == pytest.approx(energy.joules_per_inference / 3.6e6 * 0.38, rel=0.2)


def test_twice_the_work_costs_about_twice_and_is_more_in_every_round(no_rapl):
    calls = {str(ms): lambda ms=ms: spin(ms / 1000) for ms in (2, 4)}
    found = compare(measure_in_turn(calls, EnergyMeter(components=("cpu",)), 0.25))
    assert found["4"].joules_per_inference == pytest.approx(2 * found["2"].joules_per_inference, rel=0.2)
    assert found.verdict("4") == "more" and found.ratios["4"][1] > 1.4


def test_a_call_longer_than_a_window_runs_once_in_each(no_rapl):
    energy = measure(lambda: spin(0.01), 0.001)
    assert energy.runs == WINDOWS and energy.joules_per_inference > 0


def test_windows_hold_ten_updates_of_the_counter(no_rapl, gpus, monkeypatch):
    (handle,) = gpus({"joules": 1.0, "watts": 1.0})
    monkeypatch.setattr("tfgreen.energy.probes._GpuProbe.update_s", 0.01)

    def run():
        handle["joules"] += 0.001
        time.sleep(0.001)

    energy = measure(run, 0.01, components=("gpu",))
    assert energy.duration_s >= WINDOWS * 0.1 and energy.source == "nvml"
    assert energy.joules_per_inference == pytest.approx(0.001, rel=1e-2) and "holds only" not in energy.how


def test_counters_that_stand_still_give_none_with_the_reason(rapl):
    rapl()
    energy = measure(lambda: None, 0.02, region="DEU", components=("cpu",))
    assert energy.joules_per_inference is None and energy.co2e_kg_per_inference is None and not energy.windows
    assert energy.source == "unavailable" and "gave no energy" in energy.how and "no energy reading" in energy.co2e_how
    assert str(compare({"a": energy, "b": energy})).count("no difference shown") == 1


def test_counters_are_divided_by_the_runs_and_idle_power_is_taken_off(rapl):
    tree = rapl()

    def run():
        tree.burn(0.5, 0.25)
        time.sleep(0.002)

    energy = measure(run, components=("cpu",), idle_seconds=0.05)
    assert energy.joules_per_inference == pytest.approx(0.75, rel=1e-3) and energy.source == "rapl"
    assert energy.net_joules_per_inference is None  # a counter that stands still gives no idle power
    tree.burn(1.0, 1.0)


def test_a_difference_is_shown_where_every_round_had_it():
    found = compare({"a": made_up(2, 2, 2, 2, 2, 2, 2), "b": made_up(1, 1, 1.9, 1, 1, 1, 1)})
    assert isinstance(found, EnergyComparison) and list(found) == ["a", "b"] and len(found) == 2
    assert found.ratios["b"] == (0.5, 0.5, 0.95) and found.verdict("b") == "less"
    found = compare({"a": made_up(1, 5, 1), "b": made_up(1.1, 4, 1.1), "c": made_up()})
    assert found.verdict("b") == "no difference shown" == found.verdict("c") and found.ratios["c"] is None
    assert found.to_dict()["verdicts"] == {"b": "no difference shown", "c": "no difference shown"}
    lines = str(found).splitlines()
    assert lines[0].split() == ["model", "per", "inference", "of", "the", "first", "verdict"]
    assert "x 1.1 (0.8 to 1.1)" in lines[2] and lines[-1].startswith("source of 'a': estimate")
    assert found._repr_html_().count("<tr>") == 4 and "b 1.1 J" in repr(found)


def test_an_error_of_the_call_comes_through(no_rapl):
    with pytest.raises(ZeroDivisionError):
        measure(lambda: 1 / 0)
