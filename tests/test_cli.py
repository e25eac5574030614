"""The command line: exit codes, one line for bad input, nothing left behind, no TensorFlow before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo
from tfgreen import cli
from tfgreen.cli import in_options, main
from tfgreen.reports import measure


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, data that fits it, and files that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3, "softmax")], name="small"
    )
    model.save(folder / "model.keras")
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
    (folder / "text.npz").write_text("hello")
    (folder / "text.keras").write_text("hello")
    (folder / "text.tflite").write_text("hello")
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine")
    return folder


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(measure, "ENERGY_SECONDS", 0.05)
    monkeypatch.setattr(measure, "LATENCY_RUNS", 20)


def run(files, command, capfd):
    """Run a command line in which ``@`` stands for the folder of files; return exit code, stdout and stderr."""
    code = main([word.replace("@", f"{files}/") for word in command.split()])
    out, err = capfd.readouterr()
    return code, out, err


BAD = {
    # found before TensorFlow is imported
    "": "the following arguments are required: COMMAND",
    "paint": "invalid choice: 'paint'",
    "profile": "the following arguments are required: MODEL",
    "profile @none.keras": "none.keras: cannot be read: No such file or directory",
    "profile @full": "full: expected a file, received a folder",
    "convert @none.keras": "none.keras: cannot be read",
    "energy @none.tflite --data @good.npz": "none.tflite: cannot be read",
    "energy @text.tflite": "the following arguments are required: --data",
    "energy @text.tflite --data @nan.npz": "x_test: expected finite numbers, received 1 NaN",
    "energy @text.tflite --data @good.npz --seconds 0": "argument --seconds: expected a number above 0",
    "energy @text.tflite --data @good.npz --region XYZ": "--region: expected an ISO 3166 alpha-3 code",
    "energy @text.tflite --data @good.npz --meter @none.csv": "none.csv: cannot be read",
    "energy @text.tflite @text.tflite --data @good.npz": "MODEL: expected different files",
    "devices @none.tflite": "none.tflite: cannot be read",
    "devices --device h100": "--device: expected one of",
    "devices --device nope": "A profile of your own: the path of its .json file.",
    "devices --price 3": "--latency, --joules and --price: expected with MODEL",
    "devices @model.keras --joules 0": "argument --joules: expected a number above 0, received '0'",
    "devices @model.keras --region XYZ": "--region: expected an ISO 3166 alpha-3 code",
    "devices --device @none.json": "none.json: cannot be read",
    "convert @model.keras --quantization int2": "invalid choice: 'int2'",
    "convert @model.keras --layer out": "argument --layer: expected LAYER=float32, LAYER=int8 or LAYER=int4",
    "convert @model.keras --layer out=int16": "received 'out=int16'",
    "convert @model.keras --data @good.npz": "with int8, int16x8 and int4 only, received --quantization float32",
    "convert @model.keras --quantization int8 --data @text.npz": "text.npz: expected an .npz file",
    "convert @model.keras --quantization int8 --data @nan.npz --samples x": "expected a whole number from 1",
    "convert @model.keras --output @model.keras": "model.keras: cannot be written",
    "convert @model.keras --output /proc/nowhere": "/proc/nowhere: cannot be written",
    "verify @model.keras @text.tflite": "the following arguments are required: --data",
    "verify @model.keras @none.tflite --data @good.npz": "none.tflite: cannot be read",
    "verify @model.keras @text.tflite --data @nan.npz": "x_test: expected finite numbers, received 1 NaN",
    "benchmark @none.tflite": "none.tflite: cannot be read",
    "benchmark @text.tflite": "text.tflite",
    "benchmark @text.tflite --threads 0": "argument --threads: expected a whole number from 1, received '0'",
    "demo --epochs 1.5 --output @new": "argument --epochs: expected a whole number",
    "demo --seed -1 --output @new": "argument --seed",
    "demo --sparsity 1 --output @new": "expected a number between 0 and 1, received '1'",
    "demo --region Germany --output @new": "error: --region: expected",
    "demo --output @full": "holds 'mine.txt'",
    "demo --output @model.keras": "received a file",
    "demo --output @model.keras/deep/new": "cannot be written",
    "demo --output /proc/nowhere": "/proc/nowhere: cannot be written",
    "demo --data @good.npz --output @new": "--model and --data: expected both or neither",
    "demo --model @none.keras --data @good.npz --output @new": "none.keras: cannot be read",
    "demo --model @model.keras --data @none.npz --output @new": "none.npz: expected an .npz file, but there is no",
    "demo --model @model.keras --data @text.npz --output @new": "text.npz: expected an .npz file",
    "demo --model @model.keras --data @no_y_test.npz --output @new": "missing: y_test",
    "demo --model @model.keras --data @short.npz --output @new": "y_train: expected a label for each of 40 samples",
    "demo --model @model.keras --data @nan.npz --output @new": "x_test: expected finite numbers, received 1 NaN",
}
BAD_FOR_TENSORFLOW = {
    "profile @text.keras": "text.keras: expected a Keras model saved as .keras or .h5",
    "profile @good.npz": "expected a Keras model saved as .keras or .h5, received a zip archive without config.json",
    "convert @text.keras --output @deep/new": "text.keras: expected a Keras model",
    "convert @model.keras --quantization int8 --output @deep/new": "error: --data: expected samples of the inputs",
    "convert @model.keras --quantization int8 --data @wide.npz --output @deep/new": "error: --data of input 'input",
    "verify @model.keras @text.tflite --data @good.npz": "text.tflite",
    "energy @text.tflite --data @good.npz": "text.tflite",
    "energy @model.keras --data @wide.npz": "--data",
    "energy @model.keras --data @good.npz --threads 2": "1 for a Keras model",
    "demo --model @text.keras --data @good.npz --output @deep/new": "text.keras: expected a Keras model",
    "demo --model @multi.keras --data @good.npz --output @deep/new": "expected a classifier: one input, one output",
    "demo --model @model.keras --data @wide.npz --output @deep/new": "x_train: expected samples of shape (4,)",
    "demo --model @model.keras --data @classes.npz --output @deep/new": "labels from 0 to 2, as model 'small' has 3",
}


@pytest.mark.parametrize("command", [*BAD, *BAD_FOR_TENSORFLOW])
def test_bad_input_gets_one_line_and_leaves_nothing(command, files, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(files))
    code, out, err = run(files, command, capfd)
    assert code == 2 and out == ""
    assert err.startswith("tfgreen: error: ") and {**BAD, **BAD_FOR_TENSORFLOW}[command] in err
    assert err.count("\n") == 1 and err.endswith("\n")
    assert sorted(os.listdir(files)) == before and os.listdir(files / "full") == ["mine.txt"]
    assert not os.listdir(tmp_path)


def test_bad_input_is_found_before_tensorflow_is_imported(files, tmp_path):
    commands = [[word.replace("@", f"{files}/") for word in command.split()] for command in BAD]
    code = (
        "import json, sys; from tfgreen.cli import main\n"
        "assert [main(command) for command in json.loads(sys.argv[1])] == [2] * int(sys.argv[2])\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    arguments = [sys.executable, "-c", code, json.dumps(commands), str(len(commands))]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(commands) and not os.listdir(tmp_path)


def test_help_imports_nothing_heavy_and_is_complete():
    code = (
        "import sys; from tfgreen.cli import main; code = main(['--help'])\n"
        "assert not {'tensorflow', 'keras', 'numpy', 'rich'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in cli.COMMANDS:
        assert command.__name__ in done.stdout


def test_version(capfd):
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"tfgreen {tg.__version__}\n"


def test_profile_of_a_model_that_is_still_being_pruned(capfd, tmp_path):
    pruned = tg.prune(zoo.functional(), tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0)))
    pruned.save(tmp_path / "pruned.keras")
    code = "import sys; from tfgreen.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "profile", str(tmp_path / "pruned.keras")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and "hidden" in done.stdout


def test_profile(files, capfd):
    code, out, _ = run(files, "profile @model.keras", capfd)
    assert code == 0 and "131" in out  # 4 * 16 + 16 + 16 * 3 + 3
    code, out, _ = run(files, "profile @model.keras --json", capfd)
    assert code == 0 and json.loads(out)["parameters"] == 131


def test_convert_verify_and_benchmark(files, capfd, tmp_path):
    for quantization, data in (("float32", ""), ("int8", " --data @good.npz")):
        command = f"convert @model.keras --quantization {quantization}{data} --output {tmp_path}/a/b"
        code, out, _ = run(files, command, capfd)
        path = tmp_path / "a" / "b" / f"model-{quantization}.tflite"
        assert code == 0 and path.exists() and str(path) in out
        code, out, _ = run(files, f"{command} --json", capfd)
        facts = json.loads(out)
        assert code == 0 and facts["size_bytes"] == path.stat().st_size and facts["quantization"] == quantization
        code, out, _ = run(files, f"verify @model.keras {path} --data @good.npz", capfd)
        assert code == 0 and "passed" in out
        code, out, _ = run(files, f"benchmark {path} --runs 5 --json", capfd)
        assert code == 0 and json.loads(out)["runs"] == 5
    code, out, _ = run(files, f"benchmark {path} --runs 5 --threads 2", capfd)
    assert code == 0 and "2 threads" in out
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["model-float32.tflite", "model-int8.tflite"]


def test_convert_with_choices_and_a_target(files, capfd, tmp_path):
    command = f"convert @model.keras --quantization int8 --data @good.npz --output {tmp_path} --json"
    kept = tg.load_model(files / "model.keras").layers[0].name
    code, out, _ = run(files, f"{command} --keep-float {kept} --calibration mse --dynamic-batch", capfd)
    assert code == 0 and json.loads(out)["operators"]
    lite = tg.load_litert(json.loads(out)["path"])
    assert lite.inputs[0].shape == (None, 4) and lite.audit.float_layers == (kept,)
    code, out, _ = run(files, f"{command} --layer {kept}=int4", capfd)
    assert code == 0 and {w.bits for w in tg.load_litert(json.loads(out)["path"]).weights.values()} == {4, 8}
    code, out, _ = run(files, f"{command} --strict --target edgetpu", capfd)
    assert code == 0 and any("Edge TPU" in note for note in json.loads(out)["notes"])
    code, out, _ = run(files, f"convert @model.keras --flex --output {tmp_path} --json", capfd)
    assert code == 0 and not any(name.startswith("Flex") for name in json.loads(out)["operators"])
    code, _, err = run(files, f"convert @model.keras --output {tmp_path}/none --target edgetpu", capfd)
    assert code != 0 and "--quantization int8" in err and not (tmp_path / "none").exists()


def test_a_quantized_model_converts_without_data(files, capfd, tmp_path):
    model = tg.load_model(files / "model.keras")
    x = np.random.default_rng(0).random((32, *model.input_shape[1:]), np.float32)
    tg.quantize(model, tg.QuantizeConfig(calibration_data=x)).save(tmp_path / "quantized.keras")
    command = f"convert {tmp_path}/quantized.keras --quantization int8 --output {tmp_path} --json"
    code, out, _ = run(files, command, capfd)
    assert code == 0 and json.loads(out)["quantization"] == "int8"


def test_convert_and_verify_a_model_with_several_inputs(files, capfd, tmp_path):
    np.savez(tmp_path / "both.npz", **zoo.sample("multi_io", 40))
    np.savez(tmp_path / "one.npz", image=zoo.sample("multi_io", 40)["image"])
    command = f"convert @multi.keras --quantization int8 --output {tmp_path} --data {tmp_path}"
    code, out, _ = run(files, f"{command}/both.npz --json", capfd)
    assert code == 0
    path = json.loads(out)["path"]
    assert run(files, f"verify @multi.keras {path} --data {tmp_path}/both.npz", capfd)[0] == 0
    code, _, err = run(files, f"{command}/one.npz", capfd)
    assert code != 0 and "error: --data" in err and "meta" in err


def test_verify_fails_with_1_for_another_model(files, capfd, tmp_path):
    other = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(3, "softmax")], name="other"
    )
    other.save(tmp_path / "other.keras")
    assert run(files, f"convert {tmp_path}/other.keras --output {tmp_path}", capfd)[0] == 0
    code, out, _ = run(files, f"verify @model.keras {tmp_path}/other-float32.tflite --data @good.npz", capfd)
    assert code == 1 and "FAILED" in out
    code, out, _ = run(files, f"verify @model.keras {tmp_path}/other-float32.tflite --data @good.npz --json", capfd)
    assert code == 1 and json.loads(out)["passed"] is False


def test_demo_on_a_model_of_ones_own(files, capfd, tmp_path, quick):
    command = f"demo --model @model.keras --data @good.npz --epochs 1 --output {tmp_path}/out"
    code, out, err = run(files, command, capfd)
    assert code == 0 and "pruned-int8" in out and "model.tflite" in out and "prune while training" in err
    code, out, _ = run(files, f"{command} --json", capfd)  # over its own earlier result
    assert code == 0 and json.loads(out) == json.loads((tmp_path / "out" / "report.json").read_text())


def test_demo_fails_with_1_if_an_artifact_does_not_verify(files, capfd, tmp_path, quick, monkeypatch):
    from tfgreen.deploy.verify import verify

    strict = lambda model, lite, x: verify(model, lite, x, mean_scales=0.0, max_scales=0.0)  # noqa: E731
    monkeypatch.setattr(measure, "verify", strict)
    command = f"demo --model @model.keras --data @good.npz --epochs 1 --output {tmp_path}/out --json"
    code, out, _ = run(files, command, capfd)
    int8 = json.loads(out)["variants"][2]
    assert code == 1 and int8["verified"] is False and "the outputs differ" in int8["reasons"]["verified"]


def test_energy(files, capfd, tmp_path):
    lite = tg.convert(tg.load_model(files / "model.keras")).save(tmp_path / "m.tflite")
    code, out, err = run(files, f"energy {lite} --data @good.npz --seconds 0.1 --region DEU", capfd)
    assert code == 0 and "energy per inference" in out and "CO2e" in out and "measure the energy" in err
    code, out, _ = run(files, f"energy @model.keras {lite} --data @good.npz --seconds 0.1 --json", capfd)
    found = json.loads(out)
    assert code == 0 and set(found["results"]) == {"model.keras", "m.tflite"}
    assert list(found["verdicts"]) == ["m.tflite"]
    (tmp_path / "usb.csv").write_text("timestamp,watts\n0,5\n1,5\n2,5\n")  # of another day
    code, out, _ = run(files, f"energy {lite} --data @good.npz --seconds 0.1 --meter {tmp_path}/usb.csv", capfd)
    assert code == 1 and "after the last row" in out


def test_devices(files, capfd, tmp_path):
    lite = tg.convert(tg.load_model(files / "model.keras")).save(tmp_path / "m.tflite")
    code, out, _ = run(files, "devices", capfd)
    assert code == 0 and "horowitz-45nm" in out and "cortex-m4-stm32l4r5" in out
    code, out, _ = run(files, "devices --device horowitz-45nm --json", capfd)
    assert code == 0 and json.loads(out)["devices"][0]["year"] == 2014
    code, out, _ = run(files, f"devices {lite} --price 100 --region DEU", capfd)
    assert code == 0 and "cortex-m4-stm32l4r5: the only one" in out
    code, out, _ = run(files, f"devices {lite} --latency 1e-9 --json", capfd)
    assert code == 1 and json.loads(out)["choice"] is None
    code, out, _ = run(files, "devices @model.keras --device mobile-snapdragon-855", capfd)
    assert code == 0 and "converted to float32" in out
    assert "tfgreen devices --device NAME" in out and "tg." not in out
    (tmp_path / "mine.json").write_text(json.dumps(tg.DeviceProfile.named("datacenter-h100").to_dict() | {"name": "m"}))
    assert run(files, f"devices {lite} --device {tmp_path / 'mine.json'}", capfd)[0] == 0


def test_doctor(files, capfd):
    code, out, err = run(files, "doctor", capfd)
    assert code == 0 and "tensorflow" in out and "CPU" in out and "RAPL" in out and err == ""
    code, out, _ = run(files, "doctor --json", capfd)
    facts = json.loads(out)
    assert code == 0 and facts["devices"] and facts["energy_sources"][0].keys() == {"name", "available", "detail"}


def test_ctrl_c_gives_130_and_leaves_nothing(files, capfd, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.tg, "load_model", interrupted)
    code, out, err = run(files, f"convert @model.keras --output {tmp_path}/deep/out", capfd)
    assert code == 130 and out == "" and err == "tfgreen: interrupted\n"
    assert not os.listdir(tmp_path)


def test_a_fault_of_tfgreen_keeps_its_traceback(files, monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli.tg, "load_model", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["profile", f"{files}/model.keras"])


def test_a_closed_pipe_is_no_error(files):
    code = "import sys; from tfgreen.cli import main; sys.exit(main(['benchmark', '--help']))"
    done = subprocess.run(f"{sys.executable} -c \"{code}\" | true", shell=True, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_a_saved_model_folder_and_phrases_of_python_get_the_words_of_the_command_line(tmp_path, capsys):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    for command in ("profile", "convert"):
        assert main([command, str(tmp_path)]) == 2
        assert "received a TensorFlow SavedModel (a folder)" in capsys.readouterr().err
    sentences = {
        "Pass tg.convert(model, quantization='int8', calibration_data=x[:512]).": "--quantization int8 --data FILE.npz",
        "A float file may have it: ConvertConfig(flex=True).": "may have it: --flex.",
        "Try keep_float=('a',), or train it.": "Try --keep-float 'a', or train it.",
        "try calibration='percentile'": "try --calibration percentile",
        "convert with sparse_weights=False.": "convert with --sparse-weights no.",
        "List them in keep_float; strict=True.": "List them in --keep-float; --strict.",
    }
    for said, expected in sentences.items():
        assert expected in in_options(said) and "Config" not in in_options(said)
