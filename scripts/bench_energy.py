"""What the energy account claims, measured.

    python scripts/bench_energy.py devices
    python scripts/bench_energy.py meter
    python scripts/bench_energy.py repeats
    python scripts/bench_energy.py prediction

devices: a profile of this machine, and for four files (ResNet-8 and MobileNetV2 at 96 pixels, float32 and int8, random
weights) the latency that it gives beside the measured one, on one thread. Profile and measurement are taken three times
in turn; "within 30 %" is said of the median ratio.

meter: milliseconds to start and to stop a meter, alone and beside a running one; and the CPU time of epochs of ResNet-8
with an ``EnergyLogger`` over that without, in turn.

repeats: ``inference_energy`` of one file, a hundred times for a second each: how many of its intervals hold the median
of all, and how many pairs of neighbours lie within each other's.

prediction: what is told after the first epoch of the demo's trainings, over what they used.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from common import resnet8

import tfgreen as tg
from tfgreen.recipes.demo import DemoConfig, run_demo
from tfgreen.tables import text_table

ROUNDS = 3
CLOSE = 0.3


def files() -> dict[str, tg.LiteRTModel]:
    """Both networks as float32 and int8 files, by name."""
    keras.utils.set_random_seed(0)
    models = {
        "ResNet-8": resnet8(keras),
        "MobileNetV2 96": keras.applications.MobileNetV2((96, 96, 3), weights=None),
    }
    found = {}
    for name, model in models.items():
        x = np.random.default_rng(0).random((8, *model.input_shape[1:]), np.float32)
        found[f"{name} float32"] = tg.convert(model)
        found[f"{name} int8"] = tg.convert(model, quantization="int8", calibration_data=x)
    return found


def devices() -> int:
    """Estimated and measured latency on this machine; 1 if a file is not within 30 %."""
    lites = files()
    ratios: dict[str, list[float]] = {name: [] for name in lites}
    rows: dict[str, tuple[float, float, float]] = {}
    for _ in range(ROUNDS):
        start = time.perf_counter()
        profile = tg.DeviceProfile.of_this_machine()
        took = time.perf_counter() - start
        for name, lite in lites.items():
            estimate = tg.estimate_energy(lite, profile)
            measured = tg.benchmark(lite, runs=300)
            ratios[name].append(1e3 * (estimate.seconds or 0.0) / measured.median_ms)
            rows[name] = 1e3 * (estimate.seconds or 0.0), measured.median_ms, measured.min_ms
    print(f"{profile.title}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; profile took {took:.1f} s")
    table, far = [], 0
    for name, (estimate_ms, median, least) in rows.items():
        ratio = statistics.median(ratios[name])
        near = abs(ratio - 1) <= CLOSE
        far += not near
        spread = f"{min(ratios[name]):.2f} to {max(ratios[name]):.2f}"
        figures = (f"{estimate_ms:.4f}", f"{median:.4f}", f"{least:.4f}", f"{ratio:.2f}", spread)
        table.append((name, *figures, "yes" if near else "NO"))
    headings = ("file", "estimated ms", "measured ms", "least ms", "ratio", f"of {ROUNDS} rounds", "within 30 %")
    print(text_table(headings, table))
    return int(far > 0)


def meter() -> int:
    """What measuring costs; 1 above 50 ms or 1 %."""
    one = tg.EnergyMeter()
    with one:
        pass

    def times() -> tuple[float, float]:
        begin = time.perf_counter()
        one.__enter__()
        inside = time.perf_counter()
        one.__exit__(None, None, None)
        return 1e3 * (inside - begin), 1e3 * (time.perf_counter() - inside)

    alone = [times() for _ in range(50)]
    with tg.EnergyMeter():
        beside = [times() for _ in range(50)]
    slowest = 0.0
    for name, found in ("alone", alone), ("beside another", beside):
        start, stop = (statistics.median(column) for column in zip(*found))
        slowest = max(slowest, start, stop)
        print(f"{name}: {start:.1f} ms to start, {stop:.1f} ms to stop")
    rng = np.random.default_rng(0)
    x, y = rng.random((128 * 10, 32, 32, 3), np.float32), rng.integers(0, 10, 128 * 10)
    model = resnet8(keras)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=128, verbose=0)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(2 * 8):
        logged = bool(turn % 2)
        begin = time.process_time()
        callbacks = [tg.EnergyLogger(verbose=False)] if logged else []
        model.fit(x, y, batch_size=128, epochs=3, verbose=0, callbacks=callbacks)
        seconds[logged].append(time.process_time() - begin)
    share = statistics.median(a / b for a, b in zip(seconds[True], seconds[False])) - 1
    least = min(seconds[True]) / min(seconds[False]) - 1
    print(f"EnergyLogger: {share:+.2%} CPU time of three epochs, median of 8 pairs ({least:+.2%} of the fastest)")
    return int(slowest > 50 or min(share, least) > 0.01)


def repeats(runs: int = 100) -> int:
    """How often an interval holds the median of all; 1 below 90 of 100."""
    lite = files()["ResNet-8 int8"]
    x = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    found = [tg.inference_energy(lite, x, seconds=1.0) for _ in range(runs)]
    energies = [item.joules_per_inference or 0.0 for item in found]
    middle = statistics.median(energies)

    def holds(item: tg.InferenceEnergy, joules: float) -> bool:
        return item.interval is not None and item.interval[0] <= joules <= item.interval[1]

    held = sum(holds(item, middle) for item in found)
    next_to = sum(holds(a, b.joules_per_inference or 0.0) for a, b in zip(found, found[1:]))
    width = statistics.median((i.interval[1] - i.interval[0]) / middle for i in found if i.interval)
    print(f"{held} of {runs} intervals hold the median of all, {1e6 * middle:.3g} uJ; {next_to} of {runs - 1} the next "
          f"run; {min(energies) / middle:.2f} to {max(energies) / middle:.2f} of the median; intervals of {width:.0%}; "
          f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; source: {found[0].source}")  # fmt: skip
    return int(held < 0.9 * runs)


def prediction() -> int:
    """What is told after an epoch of the demo's trainings; 1 if not within 10 %."""
    far = 0
    for seed in range(3):
        with tempfile.TemporaryDirectory() as folder:
            report = run_demo(Path(folder) / "out", DemoConfig(seed=seed))
        for curve in report.curves:
            if curve.title.endswith("energy"):
                used = [joules or 0.0 for _, joules in curve.series["used"]]
                told = next(points for name, points in curve.series.items() if "predicted" in name)[0][1] or 0.0
                ratio = told * len(used) / sum(used)
                far += abs(ratio - 1) > 0.1
                print(f"seed {seed}, {curve.title}: {ratio:.3f} of what was used", flush=True)
    return int(far > 0)


COMMANDS = {"devices": devices, "meter": meter, "repeats": repeats, "prediction": prediction}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python scripts/bench_energy.py {' | '.join(COMMANDS)}")
    sys.exit(COMMANDS[sys.argv[1]]())
