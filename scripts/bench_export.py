"""Networks that plain int8 conversion spoils, and what brings them back.

    python scripts/bench_export.py failing
    python scripts/bench_export.py failing --data cifar10_jpeg.npz

``failing`` trains a small depthwise-separable network, on patterns made from a seed or on the images of ``--data``.
Then every other channel of one depthwise layer is made 100 times larger, and the convolution after it takes it in 100
times smaller. The float model predicts the same, but the channels of that layer share one int8 scale. Every accuracy in
the last table is that of a ``.tflite`` file, run by the LiteRT interpreter over the whole test split;
``tg.search_precision`` scores on 1,000 samples that are in neither that nor the training.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import keras
import numpy as np
from common import Split, load_data, top1

import tfgreen as tg

SPOILED = "depthwise_2"
TIMES = 100.0


def patterns(seed: int = 0) -> tuple[Split, Split]:
    """12,000 training and 2,000 test images of 0 to 255: one of 10 random patterns, shifted, faint under noise."""
    rng = np.random.default_rng(seed)
    shapes = rng.normal(size=(10, 8, 8, 3)).repeat(4, axis=1).repeat(4, axis=2)
    labels = rng.integers(0, 10, 14_000)
    shifts = rng.integers(-6, 7, (len(labels), 2))
    images = np.stack([np.roll(shapes[label], shift, axis=(0, 1)) for label, shift in zip(labels, shifts)])
    images = np.clip(128 + 16 * images + 64 * rng.normal(size=images.shape), 0, 255).astype("float32")
    return (images[:12_000], labels[:12_000]), (images[12_000:], labels[12_000:])


def network() -> keras.Model:
    """A depthwise-separable network with ReLU: 32 x 32 x 3 inputs of 0 to 255, 10 classes."""
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 128, offset=-1)(inputs)
    x = layers.Conv2D(24, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for number, (filters, stride) in enumerate(((32, 1), (48, 2), (64, 2)), start=1):
        x = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=f"depthwise_{number}")(x)
        x = layers.ReLU(name=f"relu_depthwise_{number}")(layers.BatchNormalization(name=f"norm_depthwise_{number}")(x))
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"pointwise_{number}")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="head")(x))


def trained(model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.models.clone_model(model)  # with weights of that seed
    rate = keras.optimizers.schedules.CosineDecay(4e-3, epochs * -(-len(x) // 64))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def spoil(model: keras.Model) -> None:
    """Make every other channel of one layer larger, and the layer after it take it in smaller: the same function."""
    norm, after = model.get_layer(f"norm_{SPOILED}"), model.get_layer(SPOILED.replace("depthwise", "pointwise"))
    factor = np.where(np.arange(norm.gamma.shape[0]) % 2, TIMES, 1.0).astype("float32")
    norm.gamma.assign(norm.gamma * factor)
    norm.beta.assign(norm.beta * factor)
    after.kernel.assign(after.kernel / factor[:, None])


def failing(train: Split, test: Split, epochs: int) -> None:
    (x, y), (x_test, y_test) = train, test
    x, y, x_held, y_held = x[1000:], y[1000:], x[:1000], y[:1000]
    data = x[:500]
    model = trained(network(), x, y, epochs)
    before = top1(model, x_test, y_test)
    spoil(model)
    print(f"float, before and after spoiling {SPOILED}: {before:.2%} {top1(model, x_test, y_test):.2%}", flush=True)

    def int8(source: keras.Model, calibration: str = "minmax") -> tg.LiteRTModel:
        config = tg.ConvertConfig(quantization="int8", calibration_data=data, calibration=calibration)
        return tg.convert(source, config)

    def search(equalize_first: bool) -> tg.LiteRTModel:
        result = tg.search_precision(model, data, x=x_held, y=y_held, max_drop=0.01, equalize_first=equalize_first)
        print(f"\nsearch_precision, equalize_first={equalize_first}, scores on held-out samples:\n{result}\n")
        named = "the spoiled layer" if SPOILED in result.cause_layers else "another layer than the spoiled one"
        print(f"named as the cause: {named}\n", flush=True)
        return result.lite

    equalized = tg.equalize(model)
    ways: dict[str, Callable[[], tg.LiteRTModel]] = {
        "float file": lambda: tg.convert(model),
        "plain int8": lambda: int8(model),
        "correct_bias": lambda: int8(tg.correct_bias(model, data)),
        "equalize": lambda: int8(equalized),
        "equalize, correct_bias": lambda: int8(tg.correct_bias(equalized, data)),
        "percentile": lambda: int8(model, "percentile"),
        "mse": lambda: int8(model, "mse"),
        "search_precision": lambda: search(True),
        "search_precision, not equalized": lambda: search(False),
    }
    rows = []
    for name, make in ways.items():
        start = time.perf_counter()
        lite = make()
        seconds = time.perf_counter() - start
        in_float = ", ".join(lite.audit.float_layers) if name != "float file" else "all"
        rows.append(f"{name:30} {top1_file(lite, x_test, y_test):7.2%} {lite.size_bytes:8,} {seconds:6.1f}  {in_float}")
    print(f"{'file':30} {'top-1':>7} {'bytes':>8} {'s':>6}  layers in float")
    print("\n".join(rows))
    print(f"plain int8: {tg.compare_layers(model, int8(model), data).cause}")


def top1_file(lite: tg.LiteRTModel, x: np.ndarray, y: np.ndarray) -> float:
    return float((np.asarray(lite.predict(x)).argmax(-1) == y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("failing")
    command.add_argument("--data", help="an .npz of 32 x 32 x 3 images; patterns made from a seed without it")
    command.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    failing(*(load_data(arguments.data) if arguments.data else patterns()), arguments.epochs)


if __name__ == "__main__":
    main()
