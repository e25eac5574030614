"""What `tfgreen optimize` promises, measured as a user would run it: the command, its files and its report.

    python scripts/bench_optimize.py balanced --model resnet8.h5 --data cifar10.npz --seeds 3
    python scripts/bench_optimize.py posttraining --model resnet8.h5 --data cifar10.npz
    python scripts/bench_optimize.py kills --count 10

balanced: minutes of the command, and how many times smaller (gzipped and raw) and faster the int8 file is than the
float32 one, and what it loses on the test split; each seed by itself.

posttraining: minutes with 200 unlabelled samples, for the model and for a MobileNetV2 of 96 pixels with random weights.

kills: a run on the digits, killed at random moments and run again with ``--resume`` until it ends; its report is
compared with that of a run that nobody kills, timings and energy aside.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits

REACH = {"gzip_bytes": 8.0, "size_bytes": 4.5, "latency_ms": 0.45, "drop": 1.0, "minutes": 30.0}
UNLABELLED, MOST_MINUTES = 200, 3.0
RECIPE = """
name: killed
steps:
  - prune: {sparsity: 0.5}
  - distill: {epochs: 12}
  - quantize:
  - train: {epochs: 8, learning_rate: 1e-4}
  - convert: {quantization: int8}
  - verify:
"""


def command(*words: object) -> list[str]:
    """The command line of ``tfgreen optimize``."""
    return [str(Path(sys.executable).with_name("tfgreen")), "optimize", *map(str, words)]


def run(*words: object) -> tuple[dict[str, Any], float]:
    """The report of a run, and its minutes."""
    start = time.perf_counter()
    done = subprocess.run([*command(*words), "--json", "--quiet"], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    return json.loads(done.stdout), (time.perf_counter() - start) / 60


def balanced(arguments: argparse.Namespace) -> int:
    """The figures of the recipe by seed, and whether their means reach what is promised."""
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            where = ("--output", Path(folder) / "run", "--recipe", arguments.recipe, "--seed", seed)
            report, minutes = run(arguments.model, "--data", arguments.data, *where)
        first, last = report["variants"][0], report["variants"][-1]
        row = {name: first[name] / last[name] for name in ("gzip_bytes", "size_bytes")}
        row["latency_ms"] = last["latency_ms"]["median"] / first["latency_ms"]["median"]
        row |= {"drop": 100 * (first["metric"] - last["metric"]), "minutes": minutes}
        rows.append(row)
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)
    means = {name: float(np.mean([row[name] for row in rows])) for name in REACH}
    print("mean:   " + ", ".join(f"{name} {value:.3g}" for name, value in means.items()))
    more = all(means[name] >= REACH[name] for name in ("gzip_bytes", "size_bytes"))
    return int(not (more and all(means[name] <= REACH[name] for name in ("latency_ms", "drop", "minutes"))))


def posttraining(arguments: argparse.Namespace) -> int:
    """Minutes without labels."""
    with np.load(arguments.data) as data:
        samples = data["x_train"][:UNLABELLED]
    late = 0
    with tempfile.TemporaryDirectory() as folder:
        mobile = Path(folder) / "mobilenet.keras"
        keras.applications.MobileNetV2((96, 96, 3), weights=None).save(mobile)
        large = np.repeat(np.repeat(samples, 3, 1), 3, 2) / np.float32(127.5) - np.float32(1)
        for name, model, x in (("ResNet-8", arguments.model, samples), ("MobileNetV2 96", mobile, large)):
            np.savez(Path(folder) / "x.npz", x=x)
            where = ("--output", Path(folder) / name, "--recipe", "posttraining")
            report, minutes = run(model, "--data", Path(folder) / "x.npz", *where)
            late += minutes > MOST_MINUTES
            smaller = report["variants"][0]["size_bytes"] / report["variants"][-1]["size_bytes"]
            print(f"{name}: {minutes:.2f} minutes, {smaller:.2f} times smaller", flush=True)
    return int(late > 0)


def digits(folder: Path) -> tuple[Path, Path]:
    """A small model for the digits and its data, as files."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    np.savez(folder / "digits.npz", x_train=x[:1400], y_train=y[:1400], x_test=x[1400:], y_test=y[1400:])
    keras.utils.set_random_seed(0)
    layers = keras.layers
    body = [layers.Conv2D(16, 3, activation="relu"), layers.Flatten(), layers.Dropout(0.2), layers.Dense(10, "softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *body])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:1400], y[:1400], epochs=5, verbose=0)
    model.save(folder / "digits.keras")
    return folder / "digits.keras", folder / "digits.npz"


def outcome(folder: Path) -> dict[str, Any]:
    """What a run came to, without what differs from run to run: times, energy, and where it ran."""
    report = json.loads((folder / "report.json").read_text())
    keys = ("name", "metric", "size_bytes", "gzip_bytes", "nonzero_bytes", "sparsity", "verified")
    variants = [{key: variant[key] for key in keys} for variant in report["variants"]]
    curves = [curve for curve in report["curves"] if "energy" not in curve["y_label"]]
    return {"variants": variants, "curves": curves, "file": (folder / "model.tflite").read_bytes()}


def kills(arguments: argparse.Namespace) -> int:
    """How many runs that were killed on the way came to the same."""
    draw, different = random.Random(arguments.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data = digits(folder)
        (folder / "recipe.yaml").write_text(RECIPE)
        words = (model, "--data", data, "--recipe", folder / "recipe.yaml", "--output")
        _, minutes = run(*words, folder / "whole")
        expected = outcome(folder / "whole")
        for number in range(arguments.count):
            target, moment, killed = folder / f"killed{number}", draw.uniform(2, 60 * minutes), 0
            while True:
                process = subprocess.Popen(
                    [*command(*words, target), "--resume", "--quiet"], stdout=subprocess.DEVNULL
                )
                try:
                    process.wait(moment)
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    killed += 1
                    moment = draw.uniform(4, 120 * minutes)
            same = outcome(target) == expected
            different += not same
            print(f"run {number}, killed {killed} times: {'the same' if same else 'DIFFERENT'}", flush=True)
    return int(different > 0)


def main() -> int:
    """Run what is asked for; 0 if it reaches what is promised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("balanced", "posttraining", "kills"))
    parser.add_argument("--model", help="a trained ResNet-8")
    parser.add_argument("--data", help="its data, an .npz file")
    parser.add_argument("--recipe", default="balanced")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--count", type=int, default=10, help="runs that are killed")
    arguments = parser.parse_args()
    return {"balanced": balanced, "posttraining": posttraining, "kills": kills}[arguments.what](arguments)


if __name__ == "__main__":
    sys.exit(main())
