"""A folder of files for the command line: models and data that fit, and some that are wrong in one way each."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo
from tfgreen.cli import main
from tfgreen.recipes.measure import measure_variants as measure


@pytest.fixture(scope="package")
def files(tmp_path_factory):
    """A model, data that fits it, and files that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3, "softmax")], name="small"
    )
    model.save(folder / "model.keras")
    tg.convert(model).save(folder / "model.tflite")
    zoo.multi_io().save(folder / "multi.keras")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4)).astype("float32"), rng.integers(0, 3, size=60)
    good = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    bad_x = x[40:].copy()
    bad_x[3, 1] = np.nan
    variants = {
        "good": {},
        "no_y_test": {"y_test": None},
        "short": {"y_train": y[:39]},
        "nan": {"x_test": bad_x},
        "wide": {"x_train": np.zeros((40, 5)), "x_test": np.zeros((20, 5))},
        "classes": {"y_test": np.full(20, 7)},
    }
    for name, changed in variants.items():
        np.savez(folder / f"{name}.npz", **{k: v for k, v in {**good, **changed}.items() if v is not None})
    for kind in ("npz", "keras", "tflite"):
        (folder / f"text.{kind}").write_text("hello")
    rows = [f"{','.join(map(str, row))},{label}\n" for row, label in zip(x, y)]
    (folder / "good.csv").write_text("a,b,c,d,label\n" + "".join(rows))
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine")
    return folder


@pytest.fixture
def run(files, capfd):
    """Run a command line in which ``@`` stands for the folder of files; return exit code, stdout and stderr."""

    def run(command):
        code = main([word.replace("@", f"{files}/") for word in command.split()])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, "ENERGY_SECONDS", 0.05)
    monkeypatch.setattr(measure, "LATENCY_RUNS", 20)
