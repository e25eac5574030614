"""What comes out of a conversion: sizes of QAT files, norms in int8, inputs of an open size.

    python scripts/bench_files.py sizes
    python scripts/bench_files.py norms
    python scripts/bench_files.py open

``sizes`` sets the int8 file of every model of the tests' zoo, quantized for training, beside its post-training int8
file. ``norms`` prints the signal-to-noise ratio of post-training int8 files with each normalization between two
convolutions, on inputs of unit variance and on some whose rows differ thirtyfold. ``open`` converts the tests' models
whose inputs leave a size open, and runs each file at five sizes.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402

import tfgreen as tg  # noqa: E402

NORMS = {
    "UnitNormalization": layers.UnitNormalization,
    "RMSNormalization": layers.RMSNormalization,
    "LayerNormalization": layers.LayerNormalization,
    "LayerNormalization of maps": lambda: layers.LayerNormalization(axis=[1, 2, 3]),
    "GroupNormalization": lambda: layers.GroupNormalization(2),
    "GroupNormalization of one": lambda: layers.GroupNormalization(-1),
    "BatchNormalization": layers.BatchNormalization,
}
SIZES = ((8, 12), (14, 10), (22, 18), (64, 30), (36, 128))


def int8(model: keras.Model, x: Any = None) -> tg.LiteRTModel:
    return tg.convert(model, quantization="int8", calibration_data=x)


def sizes() -> None:
    from tests.quantized import varied
    from tests.zoo import ZOO, sample

    print(f"{'model':14} {'QAT bytes':>10} {'PTQ bytes':>10} {'ratio':>6}")
    ratios = []
    for name, build in ZOO.items():
        model, x = varied(build()), sample(name, 64)  # with biases, as trained models have them
        trained, after = int8(tg.quantize(model, calibration_data=x), x).size_bytes, int8(model, x).size_bytes
        ratios.append(trained / after)
        print(f"{name:14} {trained:10,} {after:10,} {ratios[-1]:6.3f}", flush=True)
    print(f"largest ratio {max(ratios):.3f}")


def normalizing(norm: keras.Layer) -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", bias_initializer="normal")(inputs)
    return keras.Model(inputs, layers.Conv2D(4, 1)(norm(x)))


def sqnr_db(expected: np.ndarray, got: np.ndarray) -> float:
    noise = float(((expected - got) ** 2).mean())
    return 10 * math.log10(float(expected.var()) / noise) if noise else math.inf


def norms() -> None:
    print(f"{'SQNR in dB':28} {'even rows':>10} {'uneven':>8}  in float32")
    for name, norm in NORMS.items():
        found = []
        for rows in (np.ones(6), np.linspace(0.1, 3, 6)):
            keras.utils.set_random_seed(0)
            model = normalizing(norm())
            x = (np.random.default_rng(0).normal(size=(320, 6, 6, 3)) * rows.reshape(6, 1, 1)).astype("float32")
            lite = int8(model, x[:256])
            found.append(sqnr_db(model.predict(x[256:], verbose=0), lite.predict(x[256:])))
        in_float = ", ".join(lite.audit.float_layers) or "nothing"
        print(f"{name:28} {found[0]:10.1f} {found[1]:8.1f}  {in_float}", flush=True)


def open_sizes() -> int:
    from tests.deploy.conversion.test_open_sizes import MODELS, built, sample

    runs = failed = 0
    for name in MODELS:
        model, worst = built(name), 0.0
        lite = tg.convert(model)
        for pair in SIZES:
            x = sample(model, 2, *pair)
            expected, got = np.asarray(model(x)), lite.predict(x)
            error = float(np.abs(got - expected).max()) if got.shape == expected.shape else math.inf
            worst, runs, failed = max(worst, error), runs + 1, failed + (error > 1e-5)
        print(f"{name:28} largest difference at {len(SIZES)} sizes {worst:.1e}", flush=True)
    print(f"{runs} runs, {failed} wrong")
    return 1 if failed else 0


def main() -> int:
    commands = {"sizes": sizes, "norms": norms, "open": open_sizes}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=list(commands))
    warnings.simplefilter("ignore")
    return commands[parser.parse_args().command]() or 0


if __name__ == "__main__":
    sys.exit(main())
