"""What training costs: batch normalization as one operator.

    python scripts/bench_training.py batch_norm [--rounds 12]

``batch_norm`` alternates steps of plain Keras 3 with those of ``tg.fuse_batch_norm`` and, for ResNet-8, of the pruned,
clustered and quantized model, and prints the CPU time of each over that of plain Keras.
"""

from __future__ import annotations

import argparse
import functools

import keras
import numpy as np
from common import compare, fit, resnet8

import tfgreen as tg
from tfgreen.model.rebuild import rebuild

STEPS = 6  # per round


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
        runs = {name: fit(one, x, y, STEPS, callbacks[name]) for name, one in models.items()}
        compare(title, runs, rounds, STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("batch_norm")
    command.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    batch_norm(options.rounds)


if __name__ == "__main__":
    main()
