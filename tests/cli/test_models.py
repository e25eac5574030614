"""Models: damaged, foreign, with code in them, with layers of the user's."""

from __future__ import annotations

import subprocess
import sys

import keras
import pytest

from tfgreen.cli.models import is_tflite, short_names


def test_names():
    assert short_names(["a/m.tflite", "b/m.tflite"]) == ["a/m.tflite", "b/m.tflite"]
    assert is_tflite("a/b.tflite") and not is_tflite("b.keras")


def test_python_code_in_a_file_is_run_only_if_that_is_said(run, tmp_path):
    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: 2 * x)]).save(tmp_path / "code.keras")
    for command in ("profile", "convert"):
        code, _, err = run(f"{command} {tmp_path}/code.keras")
        assert code == 2 and "Python code" in err and "If you trust the file, pass --unsafe." in err
    assert run(f"profile {tmp_path}/code.keras --unsafe")[0] == 0
    assert run(f"profile {tmp_path}/code.keras")[0] == 2


def test_a_damaged_file_and_a_saved_model_folder(run, files, tmp_path):
    content = bytearray((files / "model.keras").read_bytes())
    (tmp_path / "short.keras").write_bytes(content[: len(content) // 2])
    (tmp_path / "half.tflite").write_bytes((files / "model.tflite").read_bytes()[:300])
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    for command, said in {
        f"profile {tmp_path}/short.keras": "expected a Keras model",
        f"benchmark {tmp_path}/half.tflite": "half.tflite",
        f"profile {tmp_path}/saved": "received a TensorFlow SavedModel (a folder)",
        f"convert {tmp_path}/saved": "received a TensorFlow SavedModel (a folder)",
    }.items():
        code, out, err = run(command)
        assert code == 2 and out == "" and said in err and err.count("\n") == 1


@pytest.fixture
def own(tmp_path):
    """A model with a layer of the user's, and the module that has it."""
    (tmp_path / "mine.py").write_text(
        "import keras\nclass Twice(keras.layers.Layer):\n    def call(self, x):\n        return 2 * x\n"
    )
    (tmp_path / "broken.py").write_text("x = 1\nx / 0\n")
    code = "import keras, mine; keras.Sequential([keras.Input((3,)), mine.Twice()]).save('own.keras')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


@pytest.mark.slow
def test_layers_of_the_users_are_imported(run, own, monkeypatch):
    monkeypatch.chdir(own)
    code, _, err = run("profile own.keras")
    assert code == 2 and "Twice" in err and "--import MODULE" in err and "custom_objects" not in err
    assert run("profile own.keras --import mine")[0] == 0
    code, _, err = run("profile own.keras --import nothing")
    assert code == 2 and "--import: expected a module that can be imported, but there is no nothing" in err
    code, _, err = run("profile own.keras --import broken")
    assert code == 2 and "broken: it raises ZeroDivisionError" in err and "line 2" in err
    monkeypatch.delitem(sys.modules, "mine")
