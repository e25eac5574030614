"""False alarms of ``tg.check_calibration``: how often does it blame the data that a model was trained on?

    python scripts/check_alarms.py [--draws 24] [--steps 0 1 12 60] [--scales 1 255]

Every model of the tests' zoo is trained for some steps on data of some scale, and checked with draws of 64 to 1,000 of
the same samples. Images are smoothed, so that neighbours are alike. As a control each model that holds a normalization
is checked with the data times 1/255 too, which is to be found where it was trained for long.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402

import tfgreen as tg  # noqa: E402

COUNT, BATCH = 1000, 16


def data(name: str, scale: float) -> Any:
    """Samples like those of the zoo; floats at another scale, images with neighbours alike."""
    from tests.zoo import sample

    def shaped(x: np.ndarray) -> np.ndarray:
        if x.ndim == 4:
            for axis in (1, 2):
                x = x + np.roll(x, 1, axis)
        return x * np.float32(scale) if x.dtype == np.float32 else x

    return keras.tree.map_structure(shaped, sample(name, COUNT))


def trained(name: str, x: Any, steps: int) -> keras.Model:
    from tests.zoo import ZOO, loss, targets

    keras.utils.set_random_seed(0)
    model = ZOO[name]()
    model.compile("adam", loss(name))
    if steps:
        picked = np.arange(steps * BATCH) % COUNT
        x, y = keras.tree.map_structure(lambda array: array[picked], (x, targets(name, COUNT)))
        model.fit(x, y, batch_size=BATCH, verbose=0)
    return model


def main() -> int:
    from tests.zoo import ZOO

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(ZOO), default=list(ZOO))
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--steps", nargs="+", type=int, default=[0, 1, 12, 60])
    parser.add_argument("--scales", nargs="+", type=float, default=[1.0, 255.0])
    options = parser.parse_args()
    checks = alarms = 0
    for name in options.models:
        found, control = [], []
        for scale in options.scales:
            x = data(name, scale)
            for steps in options.steps:
                model = trained(name, x, steps)
                for seed in range(options.draws):
                    size = (64, 200, 500, COUNT)[seed % 4]
                    picked = np.random.default_rng(seed).choice(COUNT, size, replace=False)
                    drawn = keras.tree.map_structure(lambda array: array[picked], x)
                    found += [f"scale {scale:g}, {steps} steps: {text}" for text in tg.check_calibration(model, drawn)]
                    checks += 1
                if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers) and steps:
                    wrong = keras.tree.map_structure(lambda array: array / 255, x)
                    control.append(bool(list(tg.check_calibration(model, wrong))))
        alarms += len(found)
        told = f"; wrong scale found {sum(control)} of {len(control)} times" if control else ""
        print(f"{name:14} {len(found)} false alarms{told}", *dict.fromkeys(found), sep="\n    ", flush=True)
    print(f"{checks} checks, {alarms} false alarms")
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
