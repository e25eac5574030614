"""Probes: which one reads each component, what it adds up, and the energy of a difference."""

from __future__ import annotations

import time

import pytest

from tfgreen.energy import probes
from tfgreen.energy.probes import RAM_WATTS_PER_GB, ProbeError, best_probe


def total(probe, moment=0.0):
    probe.measure()
    return probe.total(moment)


def test_the_best_source_of_each_component_is_chosen(rapl, gpus):
    rapl()
    gpus({"joules": 1.0, "watts": 1.0})
    chosen = {name: best_probe(name) for name in ("cpu", "gpu", "ram")}
    assert {name: probe.needs_samples for name, probe in chosen.items()} == {"cpu": True, "gpu": True, "ram": False}
    assert all(probe.name == name for name, probe in chosen.items())


def test_without_a_gpu_the_reason_is_said(no_rapl):
    with pytest.raises(ProbeError, match="hidden"):
        best_probe("gpu")
    assert not best_probe("cpu").needs_samples


def test_counters_add_up_with_bounds_of_one_update(rapl):
    tree = rapl()
    probe = best_probe("cpu")
    probe.start()
    tree.burn(3.0, 1.0)
    assert total(probe) == pytest.approx(4.0, rel=1e-4)
    tree.burn(0.5, 0.5)
    used = total(probe)
    part = probe.component(used, 1.0, None)
    assert part.joules == pytest.approx(5.0, rel=1e-4) and part.source == "rapl"
    assert part.bounds == pytest.approx((5.0 * 0.999, 5.0 * 1.001), rel=1e-4)  # 1 ms in 1 s
    low, high = probe.component(6.0, 0.0005, None).bounds  # shorter than an update: nothing is known below
    assert low == 0 and high == pytest.approx(12.0, rel=1e-4)


def test_cpu_time_is_multiplied_by_the_watts_of_a_thread(no_rapl):
    probe = best_probe("cpu")
    probe.start()
    started = time.process_time()
    while time.process_time() - started < 0.05:
        pass
    assert total(probe) == pytest.approx(0.05, rel=0.3)
    part = probe.component(0.05, 0.05, 1e3)
    watts = float(part.how.split(" x ")[1].split()[0])
    assert part.source == "estimate" and part.joules == pytest.approx(0.05 * watts, rel=1e-2)
    assert part.bounds is None and "as given" in part.how


def test_memory_is_summed_over_time_until_the_moment_that_counts(monkeypatch):
    sizes = iter([1e9, 2e9, 6e9])
    monkeypatch.setattr(probes, "_resident_bytes", lambda: next(sizes))
    monkeypatch.setattr(probes.time, "perf_counter", lambda: 10.0)
    probe = best_probe("ram")
    probe.start()
    assert total(probe, 11.0) == pytest.approx(1.5e9)
    used = total(probe, 13.0)
    assert probe.total(13.0) == used
    part = probe.component(used, 3.0, None)
    assert part.joules == pytest.approx(9.5 * RAM_WATTS_PER_GB) and part.bounds == (part.joules, part.joules)


def test_a_gpu_counter_gives_bounds_of_a_tenth_of_a_second(gpus, no_rapl):
    (handle,) = gpus({"joules": 100.0, "watts": 5.0})
    probe = best_probe("gpu")
    probe.start()
    handle["joules"] += 8.0
    part = probe.component(total(probe), 1.0, None)
    assert part.joules == pytest.approx(8.0, rel=1e-4) and part.source == "nvml"
    assert part.bounds == pytest.approx((7.2, 8.8), rel=1e-4)
