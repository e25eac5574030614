"""``tfgreen optimize`` and ``tfgreen run``: a recipe, a budget, a report, exit codes."""

from __future__ import annotations

import json
import os

import keras
import numpy as np
import pytest

from tfgreen.recipes.run.folder import locked
from tfgreen.recipes.run.steps.functions import FUNCTIONS

RECIPE = """
steps:
  - prune: {sparsity: 0.5}
  - train: {epochs: 1}
  - convert: {quantization: int8}
  - verify
"""


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "quick.yaml"
    file.write_text(RECIPE)
    return file


def test_optimize_keeps_or_misses_a_budget(run, recipe, tmp_path, quick):
    command = f"optimize @model.keras --data @good.npz --recipe {recipe} --output {tmp_path}"
    code, out, err = run(f"{command}/out --max-size 100kB --region DEU")
    assert code == 0 and "keeps its limit" in out and "train: epoch 1 of 1" in err and "written to" in out
    assert "fully_quantize" not in err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["command"].startswith("tfgreen optimize ") and report["command"].endswith("--region DEU")
    code, out, err = run(f"{command}/out --max-size 1kB --json --quiet")
    assert code == 1 and err == "" and json.loads(out)["verdict"]["holds"] is False


def test_run_takes_the_recipe_first(run, recipe, tmp_path, quick):
    code, _, err = run(f"run {recipe} @model.keras --data @good.csv --target label --test-share 0.2 "
                       f"--output {tmp_path}/out --quiet")  # fmt: skip
    assert code == 0 and err == ""
    splits = json.loads((tmp_path / "out" / "report.json").read_text())["variants"][0]["sources"]["metric"]
    assert "12 samples of test" in splits or "12 test samples" in splits


@pytest.mark.slow
def test_a_run_that_is_cut_off_goes_on(run, recipe, tmp_path, quick, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    command = f"run {recipe} @model.keras --data @good.npz --output {tmp_path}/out"
    with monkeypatch.context() as patched:
        patched.setitem(FUNCTIONS, "verify", interrupted)
        code, out, err = run(command)
    assert code == 130 and out == "" and "train: epoch 1" in err and err.endswith("tfgreen: interrupted\n")
    assert not (tmp_path / "out" / "report.json").exists()
    code, out, err = run(command)
    assert code == 0 and "train: epoch 1" not in err and (tmp_path / "out" / "model.tflite").exists()
    with locked(tmp_path / "out"):
        code, out, err = run(command)
    assert code == 2 and f"process {os.getpid()} is running here. Wait for it" in err


def test_a_dry_run_writes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = "optimize @model.keras --data @good.npz --recipe balanced --dry-run --max-hours 0.001s"
    code, out, err = run(command)
    assert code == 0 and "distill" in out and "balanced: " in out and not os.listdir(tmp_path)
    assert "--max-hours is 0.001 s: training would end before its last epoch." in out
    code, out, _ = run(f"{command} --json --quiet")
    assert code == 0 and json.loads(out)["recipe"] == "balanced" and not os.listdir(tmp_path)


BAD = {
    "optimize @none.keras --data @good.npz --output @o": "none.keras: cannot be read",
    "optimize @model.keras --output @o": "the following arguments are required: --data",
    "optimize @model.keras --data @good.npz": "the following arguments are required: --output",
    "optimize @model.keras --data @good.npz --output @model.keras": "expected a folder to write to",
    "optimize @model.keras --data @good.npz --output /proc/x": "/proc/x: cannot be written",
    "optimize @model.keras --data @good.npz --output @o --max-size 3km": "--max-size: expected a number, or one with",
    "optimize @model.keras --data @good.npz --output @o --max-size 0": "--max-size: expected a number > 0",
    "optimize @model.keras --data @good.npz --output @o --recipe balance": "Did you mean 'balanced'?",
    "optimize @model.keras --data @good.npz --output @o --recipe @no.yaml": "no.yaml: cannot be read",
    "optimize @model.keras --data @good.npz --output @o --region XYZ": "--region: expected an ISO 3166",
    "run @text.keras @model.keras --data @good.npz --output @o": "text.keras, line 1: recipe: expected settings",
    "run @model.keras @model.keras --data @good.npz --output @o": "model.keras: expected YAML or JSON",
}
BAD_FOR_TENSORFLOW = {
    "--data @good.npz --metric nonsense": "--metric: ",
    "--data @good.npz --loss nonsense": "nonsense",
    "--data @wide.npz": "expected shape ('samples', 4), received (36, 5)",
    "--data @good.npz --max-co2 3g": "--max-co2 needs a region. Pass the country of the grid, such as --region DEU.",
}


@pytest.mark.parametrize("command", BAD)
def test_bad_input(command, run, files):
    code, out, err = run(command)
    assert code == 2 and out == "" and BAD[command] in err and err.count("\n") == 1
    assert not (files / "o").exists()


@pytest.mark.parametrize("options", BAD_FOR_TENSORFLOW)
def test_bad_input_that_is_found_with_the_model(options, run, recipe, tmp_path):
    code, out, err = run(f"run {recipe} @model.keras {options} --output {tmp_path}/o --quiet")
    assert code == 2 and out == "" and BAD_FOR_TENSORFLOW[options] in err and err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_recipe_is_read_with_its_lines(run, tmp_path):
    (tmp_path / "r.yaml").write_text("steps:\n  - prune: {sparsty: 0.5}\n  - convert\n")
    code, _, err = run(f"run {tmp_path}/r.yaml @model.keras --data @good.npz --output {tmp_path}/o --quiet")
    assert code == 2 and "r.yaml, line 2: step 1, prune, sparsty" in err and "Did you mean 'sparsity'?" in err


def test_a_compiled_model_trains_with_its_own_loss_and_metric(run, recipe, tmp_path, quick):
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    net.compile("adam", "huber", metrics=["mae"])
    net.save(tmp_path / "net.keras")
    x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    np.savez(tmp_path / "d.npz", x_train=x, y_train=x[:, :1] + 1)  # whole numbers would be classes
    code, out, _ = run(f"run {recipe} {tmp_path}/net.keras --data {tmp_path}/d.npz --output {tmp_path}/o --json")
    assert code == 0 and json.loads(out)["metric"]["name"] == "mae"
