"""What sparse weights save of a float file, and what they cost when it is loaded.

    python scripts/bench_sparse.py

Two networks with random weights, of which a share is set to 0 at random: one of depthwise and 1x1 convolutions, one of
3x3 convolutions and a Dense layer. For each share and mode: bytes of the file, dense and sparse, as they are and after
gzip; milliseconds from the bytes to the first result (medians, in turn); the memory of one interpreter that maps the
file, measured in a process of its own (median of 3); and whether the outputs of 8 samples are equal to the bit.
"""

from __future__ import annotations

import statistics
import time

import keras
import numpy as np

import tfgreen as tg
from tfgreen.deploy.inspection.benchmark import peak_memory
from tfgreen.tables import text_table

SHARES = (0.5, 0.7, 0.8, 0.9)
LOADS = 15


def pointwise() -> keras.Model:
    """Depthwise and 1x1 convolutions: a million weights in the latter."""
    layers = keras.layers
    x = inputs = keras.Input((48, 48, 3))
    x = layers.Conv2D(32, 3, strides=2, activation="relu")(layers.ZeroPadding2D(1)(x))
    for filters in (64, 128, 256, 512, 512, 512, 512):
        x = layers.Conv2D(filters, 1, activation="relu")(layers.DepthwiseConv2D(3, padding="same")(x))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)), name="pointwise")


def wide() -> keras.Model:
    """3x3 convolutions and a Dense layer: 1.2 million weights."""
    layers = keras.layers
    x = inputs = keras.Input((32, 32, 3))
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Dense(512, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10)(x), name="spatial")


def prune(model: keras.Model, share: float) -> None:
    """Set a share of each kernel to 0, anew from the seed."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            values = rng.normal(scale=0.05, size=weight.shape)
            weight.assign(np.where(rng.random(weight.shape) < share, 0, values))


def first_results(files: list[tg.LiteRTModel]) -> list[float]:
    """Milliseconds from the bytes of each file to its first result."""
    times: list[list[float]] = [[] for _ in files]
    for _ in range(LOADS):
        for lite, found in zip(files, times):
            start = time.perf_counter()
            lite.new_interpreter().invoke()
            found.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(found) for found in times]


def row(model: keras.Model, share: float, mode: str) -> tuple[str, ...]:
    """One line of the table."""
    files = [tg.convert(model, quantization=mode, sparse_weights=sparse) for sparse in (False, True)]
    x = np.random.default_rng(1).normal(size=(8, *model.input_shape[1:])).astype("float32")
    equal = np.array_equal(*(lite.predict(x) for lite in files))
    loads = first_results(files)
    memory = [statistics.median(peak_memory(lite) for _ in range(3)) for lite in files]
    raw, packed = [lite.size_bytes for lite in files], [lite.gzip_bytes for lite in files]
    return (
        model.name, mode, f"{share:.0%}", f"{raw[0]:,}", f"{raw[1]:,}", f"{raw[0] / raw[1]:.2f}", f"{packed[0]:,}",
        f"{packed[1]:,}", f"{loads[0]:.1f}", f"{loads[1]:.1f}", f"{loads[1] / loads[0]:.2f}",
        *(f"{count / 1e6:.1f}" for count in memory), f"{memory[1] / memory[0] - 1:+.0%}", "yes" if equal else "no",
    )


def main() -> None:
    """Print the table."""
    rows = []
    for build in (pointwise, wide):
        keras.utils.set_random_seed(0)
        model = build()
        for share in SHARES:
            prune(model, share)
            rows += [row(model, share, mode) for mode in ("float32", "float16")]
    heads = "network mode zeros dense sparse times gzip gzip-sparse load-ms sparse-ms times MB sparse-MB more equal"
    print(text_table(heads.split(), rows, left=2))


if __name__ == "__main__":
    main()
