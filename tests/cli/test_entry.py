"""The entry: exit codes, one line for bad input, nothing left behind, no TensorFlow before it is needed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

import tfgreen as tg
from tfgreen.cli import main
from tfgreen.cli.entry import COMMANDS

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
    "demo --model @model.keras --data @none.npz --output @new": "--data: expected an .npz, .csv, .tsv or .tfrecord",
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
    "demo --model @multi.keras --data @good.npz --output @deep/new": "error: x_train: expected a ",
    "demo --model @model.keras --data @wide.npz --output @deep/new": "expected shape ('samples', 4), received (40, 5)",
    "demo --model @model.keras --data @classes.npz --output @deep/new": "class numbers from 0 to 2, as the output",
}


@pytest.mark.parametrize("command", [*BAD, *BAD_FOR_TENSORFLOW])
def test_bad_input_gets_one_line_and_leaves_nothing(command, run, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(files))
    code, out, err = run(command)
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
    for command in COMMANDS:
        assert command.name in done.stdout


def test_version(capfd):
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"tfgreen {tg.__version__}\n"


def test_ctrl_c_gives_130_and_leaves_nothing(run, files, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tg, "load_model", interrupted)
    code, out, err = run(f"convert @model.keras --output {tmp_path}/deep/out")
    assert code == 130 and out == "" and err == "tfgreen: interrupted\n"
    assert not os.listdir(tmp_path)


def test_a_fault_of_tfgreen_keeps_its_traceback(files, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(tg, "load_model", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["profile", f"{files}/model.keras"])


def test_a_closed_pipe_is_no_error(files):
    code = "import sys; from tfgreen.cli import main; sys.exit(main(['benchmark', '--help']))"
    done = subprocess.run(f"{sys.executable} -c \"{code}\" | true", shell=True, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_a_full_disk_is_said(run, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tg, "convert", full)
    code, out, err = run(f"convert @model.keras --output {tmp_path}/out --quiet")
    assert code == 2 and out == "" and "the disk is full: [Errno 28] No space left on device" in err
    assert err.count("\n") == 1 and not os.listdir(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_result_that_cannot_be_printed_is_said():
    code = "import sys; from tfgreen.cli import main; sys.exit(main(['completion', 'bash']))"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.startswith("tfgreen: error: the disk is full")
    assert done.stderr.count("\n") == 1
