"""EnergyMeter: what is measured, what is estimated, what is refused, and that it keeps quiet."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

import tfgreen
from tfgreen.energy import rapl as rapl_module
from tfgreen.energy.doctor import energy_sources
from tfgreen.energy.meter import EnergyMeter


def spin(seconds=0.05):
    deadline = time.process_time() + seconds
    while time.process_time() < deadline:
        pass


def part(reading, name):
    return next(p for p in reading.components if p.name == name)


# ------------------------------------------------------------------------------------------------ estimated
def test_without_counters_the_reading_is_an_estimate_and_says_how(no_rapl):
    with EnergyMeter("DEU") as meter:
        spin()
    reading = meter.reading
    assert reading.source == "estimate"
    assert reading.joules == pytest.approx(part(reading, "cpu").joules + part(reading, "ram").joules)
    assert "CPU-seconds" in reading.how and "no CPU energy counters" in reading.how and "GB resident" in reading.how
    assert part(reading, "gpu").joules is None and "hidden" in part(reading, "gpu").how
    assert reading.kwh == pytest.approx(reading.joules / 3.6e6)
    assert reading.co2e_kg == pytest.approx(reading.kwh * reading.intensity.kg_per_kwh)
    assert "Germany" in reading.co2e_how and "2023" in reading.co2e_how
    json.dumps(reading.to_dict(), allow_nan=False)
    low, high = reading.interval
    figures = f"{reading.joules:.3g} J ({low:.3g} to {high:.3g} J)"
    assert repr(reading).startswith(f"<EnergyReading: {figures} (estimate) in ") and figures in reading._repr_html_()
    lines = str(reading).splitlines()
    assert [line.split()[0] for line in lines] == [
        "component", "cpu", "gpu", "ram", "together:", "without", "CO2e:",
    ]  # fmt: skip
    assert lines[-1].startswith(f"CO2e: {reading.co2e_kg:.3g} kg (energy (estimate) x ")
    assert reading._repr_html_().count("<tr>") == 1 + 3 and " kg " in reading._repr_html_()


def test_a_building_takes_more_than_its_computers(no_rapl):
    with EnergyMeter("DEU", components=("cpu",)) as meter:
        spin()
    row = meter.reading.to_codecarbon(pue=1.5)
    assert row["pue"] == 1.5 and row["energy_consumed"] == pytest.approx(1.5 * meter.reading.kwh)
    grams = float(meter.reading.to_model_card("fine-tuning", pue=1.5).split("emissions:")[2].split()[0])
    assert grams == pytest.approx(1500 * meter.reading.co2e_kg, rel=1e-3)
    with pytest.raises(ValueError, match="pue"):
        meter.reading.to_codecarbon(pue=0.9)


def test_no_region_gives_energy_and_no_co2(no_rapl):
    with EnergyMeter() as meter:
        spin()
    assert meter.reading.joules > 0
    assert meter.reading.co2e_kg is None and meter.reading.intensity is None and meter.reading.region is None
    assert "no region" in meter.reading.co2e_how


def test_a_block_shorter_than_any_tick_still_reads(no_rapl):
    with EnergyMeter(sample_seconds=60) as meter:
        spin(0.002)
    assert meter.reading.joules >= 0.002 * 1.0
    assert meter.reading.duration_s >= 0.002


def test_work_costs_more_than_sleep_and_watts_can_be_given(no_rapl):
    meter = EnergyMeter(components=("cpu",), cpu_watts=1000.0)
    with meter:
        time.sleep(0.1)
    asleep = meter.reading.joules
    with meter:
        spin(0.1)
    assert meter.reading.joules > 3 * asleep
    assert "as given" in meter.reading.how and meter.reading.interval is None


# ------------------------------------------------------------------------------------------------- measured
def test_rapl_counters_are_measured_and_no_estimate_is_mixed_in(rapl):
    tree = rapl()
    with EnergyMeter("FRA") as meter:
        time.sleep(0.05)
        tree.burn(30.0, 12.0)
    reading = meter.reading
    assert reading.joules == pytest.approx(42.0, rel=1e-5)
    assert reading.source == "rapl" and "RAPL" in reading.how
    low, high = reading.interval
    assert low < reading.joules < high and high - low < 0.1 * reading.joules
    assert part(reading, "ram").joules is None and "not mixed" in part(reading, "ram").how


def test_rapl_counters_that_wrap_in_a_long_block_lose_nothing(rapl):
    tree = rapl(names=("package-0",), wrap=50_000_000)
    with EnergyMeter(components=("cpu",), sample_seconds=0.01) as meter:
        for _ in range(10):
            tree.burn(20.0)
            time.sleep(0.2)  # the sampling thread may be starved on a busy machine
    assert meter.reading.joules == pytest.approx(200.0, rel=1e-4)


def test_a_counter_that_does_not_move_is_no_reading_and_never_zero(rapl):
    rapl()
    with EnergyMeter("DEU", components=("cpu",)) as meter:
        pass
    assert meter.reading.joules is None and meter.reading.kwh is None and meter.reading.interval is None
    assert meter.reading.source == "unavailable" and "gave no energy" in meter.reading.how
    assert meter.reading.co2e_kg is None and "no energy reading" in meter.reading.co2e_how


def test_denied_counters_fall_back_to_a_named_estimate(rapl, monkeypatch):
    rapl()
    monkeypatch.setattr(rapl_module, "_readable", lambda path: False)
    with EnergyMeter(components=("cpu",)) as meter:
        spin()
    assert meter.reading.source == "estimate" and "is not permitted" in meter.reading.how
    rapl_source = next(s for s in energy_sources() if "RAPL" in s.name)
    assert not rapl_source.available and "not permitted" in rapl_source.detail


def test_gpu_counter_is_measured_beside_an_estimated_cpu(no_rapl, gpus):
    first, second = gpus({"joules": 1000.0, "watts": 70.0}, {"joules": 5.0, "watts": 70.0})
    with EnergyMeter() as meter:
        time.sleep(0.05)
        first["joules"] += 40.0
        second["joules"] += 2.0
    gpu = part(meter.reading, "gpu")
    assert gpu.joules == pytest.approx(42.0, rel=1e-4) and gpu.source == "nvml" and "counter" in gpu.how
    assert meter.reading.source == "estimate"  # the weakest part names the sum
    assert meter.reading.joules > 42.0


def test_only_visible_gpus_count(no_rapl, gpus):
    first, second = gpus({"joules": 1.0, "watts": 1.0}, {"joules": 1.0, "watts": 1.0}, visible="1")
    with EnergyMeter(components=("gpu",)) as meter:
        first["joules"] += 500.0
        second["joules"] += 3.0
    assert meter.reading.joules == pytest.approx(3.0, rel=1e-4) and meter.reading.source == "nvml"


def test_a_gpu_without_counter_is_integrated_from_its_power(no_rapl, gpus):
    gpus({"joules": None, "watts": 100.0})
    with EnergyMeter(components=("gpu",), sample_seconds=0.02) as meter:
        time.sleep(0.2)
    assert meter.reading.joules == pytest.approx(100.0 * meter.reading.duration_s, rel=0.2)
    assert "power readings" in meter.reading.how


def test_a_gpu_that_stops_answering_is_no_reading(no_rapl, gpus):
    gpus({"joules": None, "watts": None})
    with EnergyMeter(components=("gpu",)) as meter:
        time.sleep(0.01)
    assert meter.reading.joules is None and "no energy" in meter.reading.how


def test_a_driver_that_fails_does_not_break_the_block(no_rapl, gpus, monkeypatch):
    gpus({"joules": 1.0, "watts": 1.0})
    from codecarbon.external.hardware import GPU

    monkeypatch.setattr(GPU, "start", lambda self: 1 / 0)
    with EnergyMeter() as meter:
        spin()
    assert "ZeroDivisionError" in part(meter.reading, "gpu").how
    assert meter.reading.joules > 0


def test_a_counter_of_few_steps_says_so_in_its_interval(no_rapl, gpus):
    (first,) = gpus({"joules": 1000.0, "watts": 70.0})
    with EnergyMeter(components=("gpu",)) as meter:
        time.sleep(0.2)
        first["joules"] += 14.0
    low, high = meter.reading.interval
    assert low < 0.6 * meter.reading.joules and "the block holds only 2" in meter.reading.how
    assert high - meter.reading.joules == pytest.approx(14 * 0.1 / meter.reading.duration_s, rel=1e-3)


def test_a_counter_that_stops_midway_is_no_reading(rapl):
    tree = rapl()
    with EnergyMeter(components=("cpu",)) as meter:
        tree.burn(5.0, 5.0)
        tree.counters[1].unlink()
    assert meter.reading.joules is None, meter.reading


def test_memory_and_the_whole_platform_are_not_counted_beside_packages(rapl):
    tree = rapl(names=("package-0", "package-1", "dram", "psys"))
    with EnergyMeter(components=("cpu",)) as meter:
        tree.burn(3.0, 4.0, 100.0, 1000.0)
    assert meter.reading.joules == pytest.approx(7.0, rel=1e-4)


# ---------------------------------------------------------------------------------------------- idle power
def test_idle_power_is_read_first_and_taken_off(rapl, monkeypatch):
    tree, sleep = rapl(names=("package-0",)), time.sleep

    def idle(seconds):
        sleep(seconds)
        tree.burn(3.0)

    meter = EnergyMeter(components=("cpu",), idle_seconds=0.3)
    with monkeypatch.context() as patch:
        patch.setattr("tfgreen.energy.meter.time.sleep", idle)
        with meter:
            pass
    with meter:
        tree.burn(50.0)
        time.sleep(0.5)
    reading = meter.reading
    assert 1 < reading.idle_watts <= 10 and reading.joules == pytest.approx(50, rel=1e-4)
    assert reading.net_joules == pytest.approx(50 - reading.idle_watts * reading.duration_s)
    with EnergyMeter(components=("cpu",)) as meter:
        tree.burn(1.0)
    assert meter.reading.net_joules is None and "idle_seconds" in str(meter.reading)


def test_an_estimate_holds_no_idle_power(no_rapl):
    with EnergyMeter() as meter:
        spin()
    assert meter.reading.net_joules == meter.reading.joules and meter.reading.idle_watts is None


# ------------------------------------------------------------------------------------------ external meters
def test_a_function_of_watts_takes_the_place_of_all_components(no_rapl):
    powers = iter(range(10, 1000))
    with EnergyMeter("DEU", external=lambda: float(next(powers)), sample_seconds=0.05) as meter:
        time.sleep(0.5)
    reading = meter.reading
    assert [(part.name, part.source) for part in reading.components] == [("machine", "external")]
    assert 10 * reading.duration_s < reading.joules < 25 * reading.duration_s and reading.co2e_kg > 0


def test_the_time_that_a_meter_takes_to_answer_is_not_counted():
    def slow():
        time.sleep(0.1)
        return 5.0

    with EnergyMeter(external=slow) as meter:
        time.sleep(0.2)
    assert meter.reading.joules == pytest.approx(5.0 * meter.reading.duration_s, rel=1e-3)
    assert meter.reading.duration_s < 0.3


def test_an_empty_block_holds_the_memory_of_the_process(no_rapl):
    with EnergyMeter(components=("ram",)) as meter:
        pass
    gigabytes = psutil.Process().memory_info().rss / 1e9
    assert float(meter.reading.how.split(" GB resident")[0].split()[-1]) == pytest.approx(gigabytes, rel=0.1)


@pytest.mark.parametrize("watts, why", [(lambda: -1.0, "-1"), (lambda: 1 / 0, "ZeroDivisionError")])
def test_a_function_that_gives_no_power_is_no_reading(watts, why):
    with EnergyMeter(external=watts) as meter:
        pass
    assert meter.reading.joules is None and why in meter.reading.how


# -------------------------------------------------------------------------------------------------- meters
def test_a_running_block_can_be_read(no_rapl):
    meter = EnergyMeter(components=("cpu",))
    with pytest.raises(ValueError, match="No block"):
        meter.so_far()
    with meter:
        spin(0.02)
        first = meter.so_far()
        spin(0.02)
        assert 0 < first.joules < meter.so_far().joules
    assert meter.reading.joules > first.joules


def test_meters_share_one_thread(rapl):
    tree = rapl()
    before = threading.active_count()
    meters = [EnergyMeter(components=("cpu",), sample_seconds=0.5 + i) for i in range(5)]
    for meter in meters:
        meter.__enter__()
    assert threading.active_count() == before + 1
    tree.burn(2.0, 1.0)
    for meter in meters:
        meter.__exit__(None, None, None)
    assert threading.active_count() == before
    assert all(meter.reading.joules == pytest.approx(3.0, rel=1e-4) for meter in meters)


def test_meters_nest_and_run_side_by_side(no_rapl):
    with EnergyMeter("DEU") as outer:
        with EnergyMeter("FRA") as inner:
            spin(0.05)
        first = inner.reading.joules
        with inner:
            spin(0.02)
        results = []

        def work():
            with EnergyMeter() as own:
                spin(0.01)
            results.append(own.reading.joules)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outer.reading.joules > first + inner.reading.joules
    assert outer.reading.region == "DEU" and inner.reading.region == "FRA"
    assert len(results) == 3 and all(joules > 0 for joules in results)


def test_nested_rapl_meters_do_not_take_each_others_energy(rapl):
    tree = rapl(names=("package-0",))
    with EnergyMeter(components=("cpu",)) as outer:
        tree.burn(10.0)
        with EnergyMeter(components=("cpu",)) as inner:
            tree.burn(5.0)
        tree.burn(1.0)
    assert inner.reading.joules == pytest.approx(5.0, rel=1e-4)
    assert outer.reading.joules == pytest.approx(16.0, rel=1e-4)


def test_one_meter_is_reentrant_and_the_outermost_block_counts(no_rapl):
    meter = EnergyMeter(components=("cpu",))
    with meter:
        spin(0.02)
        with meter:
            spin(0.02)
        with pytest.raises(ValueError, match="still running"):
            meter.reading
        spin(0.02)
    assert meter.reading.duration_s >= 0.06


def test_reading_before_use_is_a_clear_error():
    with pytest.raises(ValueError, match="has not been used"):
        EnergyMeter().reading


def test_an_exception_passes_through_and_the_meter_stops(rapl):
    tree = rapl()
    before = threading.active_count()
    meter = EnergyMeter(components=("cpu",), sample_seconds=0.01)
    with pytest.raises(RuntimeError, match="training failed"):
        with meter:
            tree.burn(3.0, 0.0)
            time.sleep(0.03)
            raise RuntimeError("training failed")
    assert threading.active_count() == before
    assert meter.reading.joules == pytest.approx(3.0, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"region": "GER"}, ValueError, "DEU"),
        ({"region": 49}, TypeError, "region"),
        ({"components": "cpu"}, TypeError, "components"),
        ({"components": ()}, ValueError, "components"),
        ({"components": ("disk",)}, ValueError, "components"),
        ({"cpu_watts": 0}, ValueError, "cpu_watts"),
        ({"cpu_watts": "65"}, TypeError, "cpu_watts"),
        ({"sample_seconds": float("nan")}, ValueError, "sample_seconds"),
        ({"sample_seconds": None}, TypeError, "sample_seconds"),
        ({"idle_seconds": -1}, ValueError, "idle_seconds"),
        ({"external": 5.0}, TypeError, "external"),
        ({"external": "missing.csv"}, ValueError, "missing.csv"),
    ],
)
def test_bad_arguments_are_named(arguments, error, text):
    with pytest.raises(error, match=text):
        EnergyMeter(**arguments)


# --------------------------------------------------------------------------------------------------- quiet
def test_nothing_is_printed_and_codecarbon_logs_again_afterwards(rapl, gpus, capfd):
    tree = rapl()
    gpus({"joules": None, "watts": 0.0})  # CodeCarbon warns about such a GPU
    with EnergyMeter("DEU", sample_seconds=0.01):
        tree.burn(1.0, 1.0)
        time.sleep(0.05)
    energy_sources()
    assert capfd.readouterr() == ("", "")
    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    logger = logging.getLogger("codecarbon")
    logger.addHandler(handler)
    try:
        logger.warning("the user's own tracker speaks")
    finally:
        logger.removeHandler(handler)
    assert len(heard) == 1


def test_a_fresh_process_is_fast_silent_offline_and_leaves_no_trace(tmp_path):
    """An audit hook refuses every connection, name lookup, sudo and opening for writing."""
    settings = "[codecarbon]\nemissions_endpoint=http://localhost:1\nlog_level=debug\n"
    (tmp_path / ".codecarbon.config").write_text(settings)
    (tmp_path / "tmp").mkdir()
    code = """
        import os, sys
        def refuse(event, args):
            if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
                raise SystemExit(f"network: {event} {args}")
            if event == "subprocess.Popen" and "sudo" in str(args):
                raise SystemExit(f"sudo: {args}")
            if event == "open" and args[2] is not None and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                # Python's tempfile tries its folder out, with a file that it removes.
                if args[0] != "/dev/null" and not str(args[0]).startswith(os.environ["TMPDIR"]):
                    raise SystemExit(f"file: {args}")
        sys.dont_write_bytecode = True
        sys.addaudithook(refuse)
        import tfgreen.energy.meter
        heavy = {"tensorflow", "keras", "pandas", "codecarbon"} & set(sys.modules)
        if heavy: raise SystemExit(f"imported: {heavy}")
        from tfgreen.energy.doctor import energy_sources
        from tfgreen.energy.meter import EnergyMeter
        with EnergyMeter("DEU") as meter:
            sum(range(100_000))
        energy_sources()
        if not meter.reading.joules > 0: raise SystemExit("no reading")
    """
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env={
            "HOME": str(tmp_path),
            "TMPDIR": str(tmp_path / "tmp"),
            "PATH": "",
            "PYTHONPATH": str(Path(tfgreen.__file__).parents[1]),
        },
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [".codecarbon.config", "tmp"]


def test_threads_may_share_a_meter(no_rapl):
    meter, inside = EnergyMeter(components=("cpu",)), threading.Barrier(4)

    def work(_):
        with meter:
            inside.wait(10)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert meter.reading.joules is not None and meter.reading.duration_s > 0
