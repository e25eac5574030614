"""What training costs, and what each saving saves.

    python scripts/bench_training.py batch_norm [--rounds 12]
    python scripts/bench_training.py accumulate [--rounds 12]
    python scripts/bench_training.py savings --data cifar10_jpeg.npz [--rounds 3] [--epochs 10]
    python scripts/bench_training.py pipeline --data cifar10_jpeg.npz [--rounds 5]

``batch_norm`` alternates steps of plain Keras 3 with those of ``tg.fuse_batch_norm`` and, for ResNet-8, of the pruned,
clustered and quantized model, without the start of ``fit``, and prints the CPU time of each over that of plain Keras.
``accumulate`` sets four parts of a batch of 128 beside a batch of 128 and one of 32, per sample. ``savings`` trains a
residual network with a global pooling on the images, plain and with each saving, in turns, from other weights in each
round. ``pipeline`` reads augmented batches in the naive order and by ``tg.pipeline``, and sets the share that a step
waits beside the profiler's.
"""

from __future__ import annotations

import argparse
import collections
import functools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from common import compare, load_data, resnet8
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

import tfgreen as tg
from tfgreen.model.rebuild import rebuild

STEPS = 20  # per epoch
REACH = {
    ("resnet8", "fused"): 0.83,
    ("mobilenetv2", "fused"): 0.85,
    ("resnet8", "pruned"): 0.84,
    ("resnet8", "clustered"): 0.88,
    ("resnet8", "quantized"): 0.95,
}


def mobilenet() -> keras.Model:
    return keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3), classes=10)


def batch_norm(rounds: int) -> None:
    cases = {
        "resnet8": (functools.partial(resnet8, keras), (128, 32, 32, 3)),
        "mobilenetv2": (mobilenet, (32, 96, 96, 3)),
    }
    for title, (make, shape) in cases.items():
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=shape).astype("float32"), rng.integers(0, 10, shape[0])
        model = make()
        models = {
            "plain": model,
            "plain again": rebuild(model, lambda path, layer: layer),
            "fused": tg.fuse_batch_norm(model),
        }
        if title == "resnet8":
            models["pruned"] = tg.prune(model, schedule=tg.ConstantSparsity(0.8, begin_step=0, frequency=100))
            models["clustered"] = tg.cluster(model)
            models["quantized"] = tg.quantize(model, calibration_data=x)
        plain = ("plain", "plain again", "fused")
        callbacks = {name: [] if name in plain else [tg.UpdateCompression()] for name in models}
        batches = tf.data.Dataset.from_tensors((x, y)).cache().repeat()
        times: dict[str, list[float]] = {name: [] for name in models}
        for one in models.values():
            one.compile("adam", "sparse_categorical_crossentropy")
        for turn in range(rounds):
            for name in list(models)[:: 1 if turn % 2 else -1]:
                clock = EpochTimes()
                options = {"steps_per_epoch": STEPS, "epochs": 3, "verbose": 0}
                models[name].fit(batches, callbacks=[*callbacks[name], clock], **options)
                times[name].append(statistics.median(clock.seconds) / STEPS)
        for name, found in times.items():
            ratio = statistics.median(a / b for a, b in zip(found, times["plain"]))
            reach = f" (to reach: {REACH[title, name]})" if (title, name) in REACH else ""
            step = f"{1e3 * statistics.median(found):8.1f} ms of CPU per step"
            print(f"{title:12} {name:12} {step}, x {ratio:.3f}{reach}", flush=True)


class EpochTimes(keras.callbacks.Callback):
    """CPU seconds of each epoch but the first, in which the step is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.process_time()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch:
            self.seconds.append(time.process_time() - self._start)


def accumulate(rounds: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4 * 128, 32, 32, 3)).astype("float32"), rng.integers(0, 10, 4 * 128)
    ways = {"128": (128, 1), "128 in 4 parts": (128, 4), "32": (32, 1)}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (batch, parts) in ways.items():
            copy = tg.fuse_batch_norm(resnet8(keras))
            copy.compile("adam", "sparse_categorical_crossentropy")
            clock = EpochTimes()
            options = {"batch_size": batch, "accumulate": parts, "steps_per_execution": 1}
            tg.fit(copy, (x, y), epochs=5, verbose=0, callbacks=[clock], **options)
            times[name].append(statistics.median(clock.seconds))
    for name, found in times.items():
        ratios = [statistics.median(a / b for a, b in zip(found, times[other])) for other in ("128", "32")]
        print(f"{name:16} {1e6 * statistics.median(found) / len(x):6.0f} us of CPU per sample, x {ratios[0]:.3f} of a "
              f"batch of 128, x {ratios[1]:.3f} of one of 32")  # fmt: skip


def pooled_resnet8() -> keras.Model:
    """ResNet-8 with a global pooling at its end, and images of 0 to 255."""
    plain = resnet8(keras)
    inputs = keras.Input((32, 32, 3))
    body = keras.Model(plain.inputs, plain.layers[-4].output)
    x = keras.layers.GlobalAveragePooling2D()(body(keras.layers.Rescaling(1 / 127.5, -1)(inputs)))
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


def savings(data: str, rounds: int, epochs: int) -> None:
    (x, y), test = load_data(data)
    base = {"epochs": epochs, "batch_size": 128, "schedule": "cosine"}
    ways = {
        "fused only": {},
        "resize 0.5": {"resize": 0.5},
        "resize 0.75": {"resize": 0.75},
        "keep 0.5": {"keep_fraction": 0.5},
        "whole economy": {"resize": 0.5, "keep_fraction": 0.5},
    }
    drops: dict[str, list[float]] = {name: [] for name in ways}
    for seed in range(rounds):
        keras.utils.set_random_seed(seed)
        model = pooled_resnet8()
        model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
        comparison = tg.compare_training(
            model, tg.pipeline((x, y), augment=mirrored_and_shifted, batch=128),
            {name: tg.TrainingConfig(**base, **way) for name, way in ways.items()},
            metric="val_accuracy", validation_data=test, rounds=1,
        )  # fmt: skip
        print(f"seed {seed}\n{comparison}", flush=True)
        plain = comparison.scores("fused only")[0]
        for name in ways:
            drops[name].append(100 * (plain - comparison.scores(name)[0]))
    for name, lost in drops.items():
        print(f"{name:14} lost {np.mean(lost):+.2f} points ({min(lost):+.2f} to {max(lost):+.2f})")


def mirrored_and_shifted(image: Any, label: Any) -> Any:
    image = tf.pad(tf.image.random_flip_left_right(image), [[4, 4], [4, 4], [0, 0]], "REFLECT")
    return tf.image.random_crop(image, (32, 32, 3)), label


def pipeline(data: str, rounds: int) -> None:
    (x, y), _ = load_data(data)
    naive = tf.data.Dataset.from_tensor_slices((x, y)).map(mirrored_and_shifted).shuffle(len(x)).batch(128)
    ways = {"naive": naive, "tg.pipeline": tg.pipeline((x, y), augment=mirrored_and_shifted, batch=128)}
    runs = {name: functools.partial(read, batches) for name, batches in ways.items()}
    compare("per batch", runs, rounds, -(-len(x) // 128))
    model = pooled_resnet8()
    model.compile("adam", "sparse_categorical_crossentropy")
    for name, batches in ways.items():
        found = tg.profile_pipeline(model, batches)
        print(f"{name}: {found} The profiler's share: {profiled_share(model, batches):.1%}", flush=True)


def read(batches: tf.data.Dataset) -> None:
    for _ in batches:
        pass


def profiled_share(model: keras.Model, batches: tf.data.Dataset) -> float:
    """The time in which steps get their batch over their whole time, from a trace of TensorFlow's profiler."""
    model.fit(batches, steps_per_epoch=5, shuffle=False, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        model.fit(batches, steps_per_epoch=50, shuffle=False, verbose=0)
        tf.profiler.experimental.stop()
        (file,) = Path(folder).glob("plugins/profile/*/*.xplane.pb")
        space = XSpace.FromString(file.read_bytes())
    found: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                begin = line.timestamp_ns + event.offset_ps / 1e3
                found[plane.event_metadata[event.metadata_id].name].append((begin, event.duration_ps))
    # As in profile_pipeline, without the first steps, in which buffers fill.
    whole, waits = (
        sum(duration for _, duration in sorted(found[name])[3:])
        for name in ("multi_step_on_iterator", "IteratorGetNextOp::DoCompute")
    )
    return waits / whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, rounds in (("batch_norm", 12), ("accumulate", 12), ("savings", 3), ("pipeline", 5)):
        command = commands.add_parser(name)
        command.add_argument("--rounds", type=int, default=rounds)
        if name in ("savings", "pipeline"):
            command.add_argument("--data", required=True)
        if name == "savings":
            command.add_argument("--epochs", type=int, default=10)
    options = vars(parser.parse_args())
    {"batch_norm": batch_norm, "accumulate": accumulate, "savings": savings, "pipeline": pipeline}[
        options.pop("command")
    ](**options)


if __name__ == "__main__":
    main()
