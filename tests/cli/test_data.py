"""Data in every form, for every command that takes samples."""

from __future__ import annotations

import json
import sys

import keras
import numpy as np
import pytest


@pytest.fixture
def images(tmp_path):
    """A folder of images, and a model of another size that takes gray ones."""
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.full((10, 12, 3), 40.0 * number)
            keras.utils.save_img(tmp_path / "pets" / name / f"{number}.png", pixels, scale=False)
    net = keras.Sequential([keras.Input((8, 9, 1)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    net.save(tmp_path / "pets.keras")
    return tmp_path


def test_a_folder_of_images_has_the_size_of_the_model(run, images):
    command = f"convert {images}/pets.keras --quantization int8 --data {images}/pets --output {images}"
    assert run(command)[0] == 0
    tflite = images / "pets-int8.tflite"
    assert run(f"verify {images}/pets.keras {tflite} --data {images}/pets")[0] == 0
    assert run(f"energy {tflite} --data {images}/pets --seconds 0.05")[0] == 0
    code, _, err = run(f"verify @model.keras @model.tflite --data {images}/pets")
    assert code == 2 and "a folder of images does not fit the model, which takes (4,)" in err


def test_a_table_without_the_column_to_predict(run, tmp_path):
    command = f"convert @model.keras --quantization int8 --output {tmp_path} --data @good.csv"
    code, out, _ = run(f"{command} --target label --json")
    assert code == 0 and json.loads(out)["size_bytes"]
    code, _, err = run(command)  # the column is one input too many
    assert code == 2 and "good.csv has 5 columns, and the model takes 4 of them. Name those" in err
    code, _, err = run(f"{command} --target lable")
    assert code == 2 and "column 'lable': expected one of" in err and "Did you mean 'label'?" in err
    code, _, err = run(f"{command} --target label --delimiter ;")
    assert code == 2 and "label" in err
    code, _, err = run(f"convert @multi.keras --quantization int8 --output {tmp_path} --data @nothing.csv")
    assert code == 2 and "--data: expected an .npz, .csv, .tsv or .tfrecord file" in err


def test_a_function_of_the_users(run, tmp_path, monkeypatch):
    (tmp_path / "tasks.py").write_text(
        "import numpy as np\ndef data():\n    return np.ones((40, 4), 'float32')\n"
        "def bad():\n    raise ValueError('no')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert run("verify @model.keras @model.tflite --data tasks:data")[0] == 0
    code, _, err = run("verify @model.keras @model.tflite --data tasks:bad")
    assert code == 2 and "tasks:bad: it raises ValueError: no" in err and "line 5" in err
    code, _, err = run("verify @model.keras @model.tflite --data tasks:dota")
    assert code == 2 and "there is no dota. Did you mean 'data'?" in err
    monkeypatch.delitem(sys.modules, "tasks")


def test_settings_that_the_form_has_not_are_refused(run):
    code, _, err = run("verify @model.keras @model.tflite --data @good.npz --target label")
    assert code == 2 and "--target: " in err and "has no such setting" in err
