"""measure_inference: joules of one call, from many."""

from __future__ import annotations

import os
import time

import pytest

from tfgreen.energy.inference import measure_inference


def spin(seconds):
    deadline = time.process_time() + seconds
    while time.process_time() < deadline:
        pass


def test_energy_of_a_call_is_the_total_over_the_calls(no_rapl):
    calls = []
    energy = measure_inference(
        lambda: calls.append(spin(0.002)), min_seconds=0.3, region="DEU", components=("cpu",), cpu_watts=1000
    )
    assert energy.runs == len(calls) - 1  # the first call warms up
    assert energy.duration_s >= 0.3
    assert energy.joules_per_inference == pytest.approx(0.002 * 1000 / os.cpu_count(), rel=0.25)
    low, high = energy.interval
    assert low <= energy.joules_per_inference <= high
    assert energy.source == "estimate" and f"{energy.runs} runs" in energy.how
    value = f"{energy.joules_per_inference:.3g} J, 95 % interval "
    assert repr(energy).startswith(f"<InferenceEnergy: {value}")
    assert value in str(energy).splitlines()[1] and "CO2e per inference" in str(energy).splitlines()[2]
    assert energy._repr_html_().count("<tr>") == 1 + 2 and energy.to_dict()["interval"] == list(energy.interval)
    assert energy.co2e_kg_per_inference == pytest.approx(energy.joules_per_inference / 3.6e6 * 0.38, rel=0.2)


def test_twice_the_work_costs_about_twice(no_rapl):
    one, two = (
        measure_inference(lambda s=s: spin(s), min_seconds=0.25, components=("cpu",)) for s in (0.002, 0.004)
    )
    assert two.joules_per_inference == pytest.approx(2 * one.joules_per_inference, rel=0.2)


def test_a_call_longer_than_the_window_runs_once_and_has_no_interval(no_rapl):
    energy = measure_inference(lambda: spin(0.03), min_seconds=0.001)
    assert energy.runs == 1 and energy.interval is None and energy.joules_per_inference > 0


def test_counters_that_stand_still_give_none_with_the_reason(rapl):
    rapl()
    energy = measure_inference(lambda: None, min_seconds=0.02, region="DEU", components=("cpu",))
    assert energy.joules_per_inference is None and energy.co2e_kg_per_inference is None
    assert energy.source == "unavailable" and "gave no energy" in energy.how and "no energy reading" in energy.co2e_how


def test_counters_are_divided_by_the_runs(rapl):
    tree = rapl()

    def run():
        tree.burn(0.5, 0.25)
        time.sleep(0.002)

    energy = measure_inference(run, min_seconds=0.1, components=("cpu",))
    assert energy.joules_per_inference == pytest.approx(0.75, rel=1e-3) and energy.source == "rapl"


def test_errors(no_rapl):
    with pytest.raises(TypeError, match="run: expected a callable"):
        measure_inference(3)
    with pytest.raises(ValueError, match="min_seconds"):
        measure_inference(print, min_seconds=0)
    with pytest.raises(ValueError, match="Close matches"):
        measure_inference(print, region="GER")
    with pytest.raises(ZeroDivisionError):
        measure_inference(lambda: 1 / 0)
