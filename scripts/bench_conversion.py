"""Int8 files of ``tg.convert`` beside official ones, their accuracy, and what a conversion costs.

    python scripts/bench_conversion.py reference --models shared/models --data cifar10_jpeg.npz
    python scripts/bench_conversion.py accuracy --model resnet8_cifar10_jpeg.h5 --data cifar10_jpeg.npz
    python scripts/bench_conversion.py cost
    python scripts/bench_conversion.py look

``reference`` converts each NAME.h5 of a folder that has a NAME_int8.tflite beside it, with integers in and out, and
sets the file beside that official one: size, error against the float model on the same inputs, latency. Images come
from ``--data``; for other inputs there is no data, and smooth random ones over the official file's range stand in.
``accuracy`` sets the ways to calibrate beside the float model on the whole test split, over several draws of 512
calibration images. ``cost`` converts in fresh processes, ``tg.convert`` and TensorFlow's converter in turn, and prints
the ratios of the medians; peak memory is that of the whole process, and what the conversion added to it. ``look``
prints what the look at the new file takes of a conversion: the time until the process of its own has run it and the
outputs are compared, and the CPU time of both processes, each over that of the whole conversion.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from common import load_data, resnet8

import tfgreen as tg

MODES = ("float32", "float16", "dynamic", "int8")
SHAPES = {"resnet8": (32, 32, 3), "mobilenet_v2": (160, 160, 3), "lstm": (50, 8), "gru": (100, 8), "two_way": (50, 8)}


def smooth(count: int, shape: tuple[int, ...], low: float, high: float, seed: int) -> np.ndarray:
    """Random inputs with neighbours alike, each with its own lowest and highest value, like spectrograms."""
    rng = np.random.default_rng(seed)
    coarse = tuple(-(-size // 5) if size > 1 else 1 for size in shape)
    values = tf.constant(rng.random((count, *coarse[:1], int(np.prod(coarse[1:])), 1), "float32"))
    fine = tf.image.resize(values, (shape[0], int(np.prod(shape[1:]))), "bicubic").numpy().reshape(count, *shape)
    ends = np.sort(rng.random((2, count)), axis=0).reshape(2, count, *(1,) * len(shape)).astype("float32")
    return (low + (high - low) * (ends[0] + (ends[1] - ends[0]) * np.clip(fine, 0, 1))).astype("float32")


def int8(model: keras.Model, data: np.ndarray, calibration: str = "minmax", edges: str = "float32") -> tg.LiteRTModel:
    edge_dtypes = {"input_dtype": edges, "output_dtype": edges}
    return tg.convert(model, quantization="int8", calibration_data=data, calibration=calibration, **edge_dtypes)


def reference(models: str, data: str | None, rounds: int) -> None:
    for path in sorted(Path(models).glob("*_int8.tflite")):
        official, model = tg.load_litert(path), tg.load_model(str(path).replace("_int8.tflite", ".h5"))
        (info,) = official.inputs
        shape = tuple(int(size) for size in info.shape[1:] if size is not None)
        if data and shape == (32, 32, 3):
            (x, _), (x_test, _) = load_data(data)
            source, x = "images", x[:512]
        else:
            assert info.scale is not None and info.zero_point is not None
            low, high = ((limit - info.zero_point) * info.scale for limit in (-128, 127))
            x, x_test = (smooth(count, shape, low, high, seed) for count, seed in ((512, 0), (2000, 1)))
            source = f"smooth random values of {low:.3g} to {high:.3g}"
        expected = np.asarray(model.predict(x_test, batch_size=500, verbose=0))
        print(f"\n{path.name}, on {len(x_test)} inputs ({source}); the float model predicts, by class: "
              f"{np.bincount(expected.argmax(-1), minlength=expected.shape[-1]).tolist()}")  # fmt: skip
        files = {"official": official}
        files |= {way: int8(model, x, way, edges=info.dtype) for way in ("minmax", "percentile", "mse")}
        print(f"{'file':12} {'bytes':>8} {'ratio':>6} {'mean error':>11} {'ratio':>6} {'same class':>10}  in float")
        errors = {}
        for name, lite in files.items():
            outputs = np.asarray(lite.predict(x_test)).reshape(expected.shape)
            errors[name] = float(np.abs(outputs - expected).mean())
            same = (outputs.argmax(-1) == expected.argmax(-1)).mean()
            print(f"{name:12} {lite.size_bytes:8,} {lite.size_bytes / official.size_bytes:6.3f} {errors[name]:11.6f} "
                  f"{errors[name] / errors['official']:6.3f} {same:10.2%}  "
                  f"{', '.join(lite.float_operators) or 'nothing'}", flush=True)  # fmt: skip
        times = tg.benchmark({"official": official, "minmax": files["minmax"]}, runs=rounds, warmup=100)
        ratio = times["minmax"].median_ms / times["official"].median_ms
        print(f"{times}\nlatency, minmax to official: {ratio:.3f}", flush=True)


def accuracy(path: str, data: str, draws: int) -> None:
    (x, _), (x_test, y_test) = load_data(data)
    model = tg.load_model(path)
    equalized = tg.equalize(model)
    right = np.asarray(model.predict(x_test, batch_size=500, verbose=0)).argmax(-1) == y_test
    print(f"float {right.mean():.2%} of {len(y_test)} test images")
    fixes: dict[str, Callable[[np.ndarray], keras.Model]] = {
        "": lambda _: model,
        " + equalize": lambda _: equalized,
        " + correct_bias": lambda sample: tg.correct_bias(model, sample),
        " + both": lambda sample: tg.correct_bias(equalized, sample),
    }
    samples = [x[np.random.default_rng(seed).choice(len(x), 512, replace=False)] for seed in range(draws)]
    print(f"{'points from float':28} {'draws':{8 * draws}} {'mean':>7}  lost and won, per draw")
    for fix, make in fixes.items():
        fixed = [make(sample) for sample in samples]
        for calibration in ("minmax", "percentile", "mse"):
            hits = [
                np.asarray(int8(source, sample, calibration).predict(x_test)).argmax(-1) == y_test
                for source, sample in zip(fixed, samples)
            ]
            points = [100 * (hit.mean() - right.mean()) for hit in hits]
            changes = " ".join(f"-{(right & ~hit).sum()}+{(hit & ~right).sum()}" for hit in hits)
            listed = " ".join(f"{value:+7.2f}" for value in points)
            print(f"{calibration + fix:28} {listed:{8 * draws}} {statistics.mean(points):+7.2f}  {changes}", flush=True)


def network(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    if name == "resnet8":
        return resnet8(keras)
    recurrent = {
        "lstm": keras.layers.LSTM(16), "gru": keras.layers.GRU(16),
        "two_way": keras.layers.Bidirectional(keras.layers.LSTM(16)),
    }  # fmt: skip
    if name in recurrent:
        return keras.Sequential([keras.Input(SHAPES[name]), recurrent[name], keras.layers.Dense(3)])
    return keras.applications.MobileNetV2(input_shape=SHAPES[name], weights=None)


def by_tensorflow(model: keras.Model, mode: str, data: np.ndarray) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "int8":
        converter.representative_dataset = lambda: ([data[k : k + 1]] for k in range(len(data)))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return bytes(converter.convert())


def convert_once(side: str, name: str, mode: str, samples: int) -> None:
    """One conversion, as JSON: seconds, CPU seconds, peak MB of the process and MB that the conversion added."""
    warnings.simplefilter("ignore")
    model = network(name)
    data = smooth(samples, SHAPES[name], 0, 255, seed=0)
    config = tg.ConvertConfig(quantization=mode, calibration_data=data if mode == "int8" else None)
    tg.convert, tg.correct_bias  # loaded on first use: neither side pays for its imports
    before, start, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
    if side == "tfgreen":
        content = tg.convert(model, config).content
    else:
        content = by_tensorflow(model, mode, data)
    seconds = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([*seconds, peak / 1024, (peak - before) / 1024, len(content)]))


def cost(names: list[str], modes: list[str], rounds: int, samples: int) -> None:
    print(f"{'':21} {'s':>14} {'ratio':>6} {'CPU s':>14} {'ratio':>6} {'peak MB':>13} {'ratio':>6} {'added MB':>12}")
    for name in names:
        for mode in modes:
            found: dict[str, list[Any]] = {"tfgreen": [], "tensorflow": []}
            for turn in range(rounds):
                for side in list(found)[:: 1 if turn % 2 else -1]:
                    command = [sys.executable, __file__, "once", side, name, mode, "--samples", str(samples)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    found[side].append(json.loads(done.stdout.splitlines()[-1]))
            ours, theirs = ([statistics.median(column) for column in zip(*rows)] for rows in found.values())
            cells = [f"{ours[i]:6.2f} {theirs[i]:7.2f} {ours[i] / theirs[i]:6.3f}" for i in (0, 1)]
            cells.append(f"{ours[2]:6.0f} {theirs[2]:6.0f} {ours[2] / theirs[2]:6.3f} {ours[3]:6.0f} {theirs[3]:5.0f}")
            print(f"{name:12} {mode:8} {' '.join(cells)}", flush=True)


def cpu_seconds() -> float:
    """Of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def look(names: list[str], modes: list[str], rounds: int, samples: int) -> None:
    module = importlib.import_module("tfgreen.deploy.convert")
    spent = [0.0, 0.0]  # seconds and CPU seconds

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = time.perf_counter(), cpu_seconds()
            try:
                return function(*args)
            finally:
                spent[0] += time.perf_counter() - start[0]
                spent[1] += cpu_seconds() - start[1]

        return call

    class Counted(module.Apart):  # type: ignore[name-defined, misc]
        __init__, __exit__ = counted(module.Apart.__init__), counted(module.Apart.__exit__)

    steps = {name: counted(getattr(module, name)) for name in ("runs_at_sizes", "try_file", "check_sizes", "judge")}
    print(f"{'median of ' + str(rounds):21} {'ms':>16} {'share':>6} {'CPU ms':>16} {'share':>6}")
    for name in names:
        low, high = (0, 255) if len(SHAPES[name]) == 3 else (-1, 1)
        model, data = network(name), smooth(samples, SHAPES[name], low, high, seed=0)
        for mode in modes:
            found = []
            with mock.patch.multiple(module, Apart=Counted, **steps):
                for _ in range(rounds + 1):
                    spent[:], start = (0.0, 0.0), (time.perf_counter(), cpu_seconds())
                    tg.convert(model, quantization=mode, calibration_data=data if mode == "int8" else None)
                    found.append((*spent, time.perf_counter() - start[0], cpu_seconds() - start[1]))
            wall, cpu, whole, whole_cpu = (1e3 * statistics.median(column) for column in zip(*found[1:]))
            print(f"{name:12} {mode:8} {wall:7.1f} {whole:8.0f} {wall / whole:6.1%} {cpu:7.1f} {whole_cpu:8.0f} "
                  f"{cpu / whole_cpu:6.1%}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("reference")
    command.add_argument("--models", required=True, help="folder of NAME.h5 and NAME_int8.tflite")
    command.add_argument("--data", help="an .npz of 32 x 32 x 3 images")
    command.add_argument("--rounds", type=int, default=3000)
    command = commands.add_parser("accuracy")
    command.add_argument("--model", required=True)
    command.add_argument("--data", required=True)
    command.add_argument("--draws", type=int, default=3)
    for name in ("cost", "look"):
        command = commands.add_parser(name)
        command.add_argument("--networks", nargs="+", choices=list(SHAPES), default=list(SHAPES))
        command.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
        command.add_argument("--rounds", type=int, default=5)
        command.add_argument("--samples", type=int, default=100)
    command = commands.add_parser("once", help="what cost runs in each process")
    command.add_argument("side", choices=["tfgreen", "tensorflow"])
    command.add_argument("network", choices=list(SHAPES))
    command.add_argument("mode", choices=MODES)
    command.add_argument("--samples", type=int, default=100)
    arguments = parser.parse_args()
    if arguments.command == "reference":
        reference(arguments.models, arguments.data, arguments.rounds)
    elif arguments.command == "accuracy":
        accuracy(arguments.model, arguments.data, arguments.draws)
    elif arguments.command in ("cost", "look"):
        measure = cost if arguments.command == "cost" else look
        measure(arguments.networks, arguments.modes, arguments.rounds, arguments.samples)
    else:
        convert_once(arguments.side, arguments.network, arguments.mode, arguments.samples)


if __name__ == "__main__":
    main()
