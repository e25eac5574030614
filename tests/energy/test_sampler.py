"""Sampler: one reading for all meters, in any order of entering and leaving."""

from __future__ import annotations

import threading
import time

import pytest

from tfgreen.energy.sampler import Sampler


def test_differences_of_one_sum_are_what_each_block_used(rapl):
    tree, sampler = rapl(names=("package-0",)), Sampler()
    first = sampler.enter(("cpu",), 1.0, None)
    tree.burn(4.0)
    second = sampler.enter(("cpu", "ram"), 0.01, None)
    tree.burn(2.0)
    time.sleep(0.1)
    middle = sampler.snapshot(("cpu",))
    assert [part.joules for part in sampler.components(first, middle, None)] == [pytest.approx(6.0, rel=1e-4)]
    sampler.leave(1.0)
    tree.burn(1.0)
    parts = sampler.components(second, sampler.snapshot(("cpu", "ram")), None)
    assert [part.name for part in parts] == ["cpu", "ram"] and parts[0].joules == pytest.approx(3.0, rel=1e-4)
    sampler.leave(0.01)
    assert not any(thread.name == "tfgreen energy" for thread in threading.enumerate())


def test_a_probe_that_failed_is_asked_anew_by_the_next_block(gpus, no_rapl):
    (handle,), sampler = gpus({"joules": None, "watts": None}), Sampler()
    start = sampler.enter(("gpu",), 1.0, None)
    assert sampler.components(start, sampler.snapshot(("gpu",)), None)[0].joules is None
    sampler.leave(1.0)
    handle["joules"] = 5.0
    start = sampler.enter(("gpu",), 1.0, None)
    handle["joules"] = 9.0
    (part,) = sampler.components(start, sampler.snapshot(("gpu",)), None)
    assert part.joules == pytest.approx(4.0, rel=1e-4)
    sampler.leave(1.0)
