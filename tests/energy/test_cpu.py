"""cpu: identity, rated power and CPU time."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tfgreen.energy import cpu

XEON = "\n".join(
    f"processor: {i}\nmodel name: Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz\nphysical id: {i // 2}\nflags: fpu{flag}\n"
    for i, flag in enumerate([""] * 4)
)


@pytest.fixture()
def machine(tmp_path, monkeypatch):
    """Pretend to run on the machine whose /proc/cpuinfo is given."""

    def pretend(text, threads):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(cpu.os, "cpu_count", lambda: threads)
        cpu.cpu_identity.cache_clear()

    yield pretend
    cpu.cpu_identity.cache_clear()


@pytest.mark.parametrize(
    ("model", "watts"),
    [
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 120.0),
        ("AMD EPYC 7763 64-Core Processor", 280.0),
        ("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz", 15.0),
        ("Apple M1", 10.0),
        ("Apple M1 Max", None),  # another product than the "Apple M1" of the table
        ("AMD EPYC", None),  # a virtual machine's name: fits every EPYC
        ("Intel(R) Xeon(R) Processor @ 2.60GHz", None),
        ("", None),
    ],
)
def test_rated_watts_needs_a_single_exact_model(model, watts):
    assert cpu.rated_watts(model) == watts


def test_bare_metal_uses_the_rated_power_of_all_sockets(machine):
    machine(XEON, 4)
    assert (cpu.cpu_identity().sockets, cpu.cpu_identity().virtual) == (2, False)
    power = cpu.thread_power()
    assert power.watts == 2 * 120 / 4
    assert "rated 240 W" in power.how and power.bounds is None


def test_a_virtual_machine_is_not_billed_for_the_whole_chip(machine):
    machine(XEON.replace("flags: fpu", "flags: fpu hypervisor"), 2)
    power = cpu.thread_power()
    assert power.watts == 4 and power.bounds[0] < 4 < power.bounds[1]
    assert "virtual machine" in power.how and "default" in power.how


def test_given_watts_come_first(machine):
    machine(XEON, 4)
    assert cpu.thread_power(60).watts == 15
    assert "as given" in cpu.thread_power(60).how


def test_clock_counts_work_and_not_sleep():
    clock = cpu.CpuClock()
    time.sleep(0.1)
    idle = clock.seconds()
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    assert idle < 0.05
    assert 0.1 <= clock.seconds() < 0.3


def test_clock_counts_children_that_live_and_that_have_ended():
    spin = "import time\nwhile time.process_time() < 0.2: pass\n"
    clock = cpu.CpuClock()
    subprocess.run([sys.executable, "-c", spin], check=True)
    ended = clock.seconds()
    child = subprocess.Popen(
        [sys.executable, "-c", spin + "print('x', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        child.stdout.readline()
        living = clock.seconds()
    finally:
        child.communicate("\n")
    assert ended >= 0.19
    assert living >= ended + 0.19
    assert clock.seconds() >= living - 0.02  # moving from living to ended loses nothing
