"""Probes: which one reads each component, the joules they read and the bounds they give."""

from __future__ import annotations

import time

import pytest

from tfgreen.energy.probes import RAM_WATTS_PER_GB, probes


def test_the_best_source_is_chosen_and_the_cpu_starts_last(rapl, gpus):
    rapl()
    gpus({"joules": 1.0, "watts": 1.0})
    chosen, absent = probes(("cpu", "gpu", "ram"), None)
    assert [probe.name for probe in chosen] == ["gpu", "cpu"] and all(probe.needs_samples for probe in chosen)
    assert [(part.name, part.joules, part.source) for part in absent] == [("ram", None, "unavailable")]
    assert "not mixed into a measurement" in absent[0].how


def test_without_counters_cpu_and_memory_are_estimated(no_rapl):
    chosen, absent = probes(("cpu", "gpu", "ram"), None)
    assert [probe.name for probe in chosen] == ["ram", "cpu"] and not any(probe.needs_samples for probe in chosen)
    assert [part.name for part in absent] == ["gpu"]
    chosen, absent = probes(("ram",), None)
    assert [probe.name for probe in chosen] == ["ram"] and not absent


def test_memory_alone_is_estimated_beside_counters(rapl):
    rapl()
    chosen, absent = probes(("ram",), None)
    assert [probe.name for probe in chosen] == ["ram"] and not absent


def test_counters_add_up_over_samples_with_bounds_of_one_update(rapl):
    tree = rapl()
    (probe,), _ = probes(("cpu",), None)
    probe.start()
    tree.burn(3.0, 1.0)
    probe.sample(0.5)
    tree.burn(0.5, 0.5)
    part = probe.read(0.5, 1.0)
    assert part.joules == pytest.approx(5.0, rel=1e-4) and part.source == "measured"
    assert part.bounds == pytest.approx((5.0 * 0.999, 5.0 * 1.001), rel=1e-4)  # 1 ms in 1 s
    tree.burn(1.0, 0.0)
    low, high = probe.read(0.0005, 0.0005).bounds  # shorter than an update: nothing is known below
    assert low == 0 and high == pytest.approx(12.0, rel=1e-4)


def test_cpu_time_is_multiplied_by_the_watts_of_a_thread(no_rapl):
    (probe,), _ = probes(("cpu",), 1e3)
    probe.start()
    started = time.process_time()
    while time.process_time() - started < 0.05:
        pass
    part = probe.read(0.05, 0.05)
    watts = float(part.how.split(" x ")[1].split()[0])
    assert part.source == "estimated" and part.joules == pytest.approx(0.05 * watts, rel=0.3)
    assert part.bounds is None and "as given" in part.how


def test_memory_is_the_mean_of_its_samples(no_rapl, monkeypatch):
    from tfgreen.energy import probes as module

    sizes = iter([1e9, 2e9, 6e9])
    monkeypatch.setattr(module, "_resident_bytes", lambda: next(sizes))
    (probe,), _ = probes(("ram",), None)
    probe.start()
    probe.sample(1.0)
    part = probe.read(1.0, 2.0)
    assert part.joules == pytest.approx(3 * RAM_WATTS_PER_GB * 2.0) and part.bounds == (part.joules, part.joules)


def test_a_gpu_counter_gives_bounds_of_a_tenth_of_a_second(gpus, no_rapl):
    (handle,) = gpus({"joules": 100.0, "watts": 5.0})
    (probe,), _ = probes(("gpu",), None)
    probe.start()
    handle["joules"] += 8.0
    part = probe.read(1.0, 1.0)
    assert part.joules == pytest.approx(8.0, rel=1e-4) and part.source == "measured"
    assert part.bounds == pytest.approx((7.2, 8.8), rel=1e-4)
