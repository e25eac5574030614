"""The demo: a quick run on made-up data, and the real one end to end (slow)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests import zoo
from tfgreen.deploy.litert_model import load_litert
from tfgreen.model.keras2.load import load_model
from tfgreen.recipes.classification import RESULT_FILES
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.data.digits import load_digits_data
from tfgreen.recipes.demo import DemoConfig, digits_network, gives_logits, run_demo
from tfgreen.recipes.measure import measure_variants as measure
from tfgreen.recipes.progress import Progress
from tfgreen.reports.report import RunReport
from tfgreen.reports.variant import FIGURES


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, "ENERGY_SECONDS", 0.05)
    monkeypatch.setattr(measure, "LATENCY_RUNS", 20)


def made_up(dtype="float32", shape=(6,), classes=3):
    """A task that a network learns: the class is the largest of the first numbers of a sample."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, size=(120, *shape)).astype(dtype)
    y = x.reshape(120, -1)[:, :classes].argmax(axis=1)
    return Data.from_arrays(x[:90], y[:90], test=(x[90:], y[90:]), source="made up", validation_share=0)


def classifier(activation=None):
    layers = [keras.Input((6,)), keras.layers.Rescaling(1 / 255), keras.layers.Dense(32, "relu")]
    return keras.Sequential([*layers, keras.layers.Dense(3, activation, name="scores")], name="mine")


def figures(report):
    """Figures that do not depend on the clock."""
    return [(v.name, v.metric, v.size_bytes, v.gzip_bytes, v.sparsity) for v in report.variants]


@pytest.mark.slow
def test_a_model_of_ones_own(quick, tmp_path, capsys):
    model, data = classifier(), made_up("uint8")
    before = model.get_weights()
    config = DemoConfig(seed=3, epochs=2, sparsity=0.75, region="DEU")
    report = run_demo(tmp_path / "out", config, model=model, data=data, progress=Progress(sys.stderr))

    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert sorted(os.listdir(tmp_path / "out")) == sorted(RESULT_FILES) and os.listdir(tmp_path) == ["out"]
    assert RunReport.load(tmp_path / "out").to_dict() == report.to_dict()
    assert [variant.name for variant in report.variants] == ["float32", "pruned-float32", "pruned-int8"]
    for variant, file in zip(report.variants, ("float32.tflite", "pruned-float32.tflite", "model.tflite")):
        lite = load_litert(tmp_path / "out" / file)
        assert variant.metric == pytest.approx(lite.evaluate(data.test.x, data.test.y), abs=1e-7)
        assert variant.size_bytes == os.path.getsize(tmp_path / "out" / file)
        assert variant.sparsity == lite.sparsity
        # Every figure is there, with its source; so small a model may take no page of memory.
        assert all(variant.sources.get(figure) for figure in FIGURES if figure != "memory_bytes")
        assert variant.co2e_kg is not None and variant.verified
    assert [v.sparsity >= 0.74 for v in report.variants] == [False, True, True]
    assert load_litert(tmp_path / "out" / "model.tflite").quantization == "int8"
    pruned = load_model(tmp_path / "out" / "pruned.keras")
    assert np.mean(pruned.get_layer("scores").get_weights()[0] == 0) >= 0.74
    steps = {step["name"]: step for step in report.steps}
    assert steps["model"]["outputs"] == "logits" and steps["prune"]["epochs"] == 2 and "few epochs" in str(steps)
    paid = report.break_even
    assert paid.cost.joules > 100 * paid.before.joules == 100 * report.variants[0].energy.joules_per_inference
    (scores,) = [row for row in report.layers if row.path.startswith("scores")]
    assert scores.sparsity >= 0.74 and scores.bits == 8 and scores.macs == scores.macs_before == 96
    options = "--model FILE --data 'made up' --seed 3 --epochs 2 --sparsity 0.75 --region DEU"
    assert report.command == f"tfgreen demo {options}" and report.seed == 3
    titles = [curve.title for curve in report.curves]
    assert titles == ["prune while training: accuracy", "prune while training: loss", "prune while training: energy"]
    assert len(report.curves[2].series["used"]) == 2
    said = capsys.readouterr().err
    assert "prune while training: epoch 2 of 2" in said


@pytest.mark.slow
def test_equal_seeds_give_equal_files(quick, tmp_path):
    reports = []
    for name in ("a", "b"):
        keras.backend.clear_session()  # layers without a name get the same one again
        keras.utils.set_random_seed(5)
        model = classifier("softmax")
        reports.append(run_demo(tmp_path / name, DemoConfig(seed=1, epochs=1), model=model, data=made_up()))
    assert figures(reports[0]) == figures(reports[1])
    for file in ("model.tflite", "float32.tflite", "pruned-float32.tflite"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert all(v.co2e_kg is None and "region" in v.reasons["co2e_kg"] for v in reports[0].variants)


@pytest.mark.slow
def test_a_subclassed_model(quick, tmp_path):
    model = zoo.TwoLayerNet(16)
    model(np.zeros((1, 6), "float32"))
    report = run_demo(tmp_path / "out", DemoConfig(epochs=1), model=model, data=made_up())
    assert report.variants[2].sparsity > 0.4


def test_logits_are_told_from_probabilities():
    x = made_up().train.x
    assert gives_logits(classifier(), x)
    assert not gives_logits(classifier("softmax"), x) and not gives_logits(classifier("sigmoid"), x)
    inputs = keras.Input((6,))
    assert not gives_logits(keras.Model(inputs, keras.ops.softmax(classifier()(inputs))), x)


def test_what_cannot_be_run_leaves_nothing(quick, tmp_path):
    data = made_up()
    with pytest.raises(ValueError, match="model was given without data"):
        run_demo(tmp_path / "out", model=classifier())
    with pytest.raises(ValueError, match="x_train of input 'image': expected shape"):
        run_demo(tmp_path / "out", model=digits_network(), data=data)
    no_weights = keras.Sequential([keras.Input((6,)), keras.layers.Reshape((6,))])
    with pytest.raises(ValueError, match="has no weight that can be pruned"):
        run_demo(tmp_path / "out", model=no_weights, data=data)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"seed": -1}, "seed: expected an integer >= 0"),
        ({"seed": 1.0}, "seed: expected an integer"),
        ({"epochs": 0}, "epochs: expected an integer >= 1"),
        ({"epochs": True}, "epochs: expected an integer"),
        ({"sparsity": 1.0}, "sparsity: expected a number > 0 and < 1"),
        ({"region": "XXX"}, "region"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        DemoConfig(**settings)


def demo(*arguments, **options):
    code = "import sys; from tfgreen.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "demo", *arguments]
    # As on a terminal, also where the tests run in the background, which ignores Ctrl-C.
    attended = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **attended, **options)


@pytest.mark.slow
def test_the_demo_keeps_its_promises_and_repeats_itself(tmp_path):
    first = demo("--output", str(tmp_path / "a"), "--json")
    out, err = first.communicate(timeout=240)
    assert first.returncode == 0, err
    report = json.loads(out)
    assert report == json.loads((tmp_path / "a" / "report.json").read_text())
    base, _, best = report["variants"]
    data = load_digits_data(0)
    measured = load_litert(tmp_path / "a" / "model.tflite").evaluate(**data.test.evaluate_arguments())
    assert base["metric"] >= 0.97 and best["metric"] == pytest.approx(measured) and measured >= base["metric"] - 0.01
    assert best["sparsity"] >= 0.75 and base["size_bytes"] >= 3.5 * best["size_bytes"]
    assert all(variant["verified"] for variant in report["variants"])
    assert "tensorflow" not in err.lower() and "E0000" not in err  # no native log on the terminal

    second = demo("--output", str(tmp_path / "b"))
    second.communicate(timeout=240)
    for file in ("model.tflite", "float32.tflite", "pruned-float32.tflite"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(stop, tmp_path):
    process = demo("--output", str(tmp_path / "deep" / "out"))
    for line in process.stderr:
        if "epoch 2" in line:
            process.send_signal(stop)
            break
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert not os.listdir(tmp_path)
