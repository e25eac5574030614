"""What the energy account claims, measured.

    python scripts/bench_energy.py devices

devices: a profile of this machine, and for four files (ResNet-8 and MobileNetV2 at 96 pixels, float32 and int8, random
weights) the latency that it gives beside the measured one, on one thread. Profile and measurement are taken three times
in turn; "within 30 %" is said of the median ratio.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

import keras
import numpy as np
from common import resnet8

import tfgreen as tg
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
            ratios[name].append(1e3 * estimate.seconds / measured.median_ms)
            rows[name] = 1e3 * estimate.seconds, measured.median_ms, measured.min_ms
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


COMMANDS = {"devices": devices}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: python scripts/bench_energy.py {' | '.join(COMMANDS)}")
    sys.exit(COMMANDS[sys.argv[1]]())
