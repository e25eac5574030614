"""Files of models that are damaged in any way: one error of ours, never what zipfile, h5py or Keras raise."""

from __future__ import annotations

import re
import shutil

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.deploy.tflite.writing import write
from tfgreen.errors import FileError, InvalidTypeError, TfgreenError
from tfgreen.model.keras2 import load

LOADERS = {"m.keras": tg.load_model, "m.h5": tg.load_model, "m.tflite": tg.load_litert, "m.npz": tg.load_compressed}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2)])
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    tg.convert(model).save(folder / "m.tflite")
    tg.save_compressed(model, folder / "m.npz")
    return folder


@pytest.mark.parametrize("name", LOADERS)
def test_cut_short_anywhere(files, name, tmp_path):
    content = (files / name).read_bytes()
    lengths = {*range(0, len(content), max(1, len(content) // 60)), *range(1, 12), len(content) - 1}
    for length in sorted(lengths):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(TfgreenError, match=name):
            LOADERS[name](tmp_path / name)


@pytest.mark.parametrize("name", sorted(LOADERS.keys() - {"m.h5"}))  # libhdf5 may loop over a broken heap
def test_zeroed_anywhere_is_found_or_loads(files, name, tmp_path):
    content, refused = (files / name).read_bytes(), 0
    for start in range(0, len(content), max(1, len(content) // 40)):
        part = content[:start] + bytes(64) + content[start + 64 :]
        (tmp_path / name).write_bytes(part)
        try:
            LOADERS[name](tmp_path / name)
        except TfgreenError as error:
            refused += name in str(error)
    assert refused > 5


@pytest.mark.parametrize("name", LOADERS)
def test_flipped_bits_are_found_or_load_and_no_words_of_libraries_get_through(files, name, tmp_path):
    content, rng, words = (files / name).read_bytes(), np.random.default_rng(0), []
    for place in rng.integers(0, len(content), 12 if name == "m.h5" else 40):
        part = bytearray(content)
        part[place] ^= 1 << rng.integers(8)
        (tmp_path / name).write_bytes(part)
        try:
            LOADERS[name](tmp_path / name)
        except TfgreenError as error:
            words.append(str(error))
    assert not [text for text in words if name not in text or re.search(r"[a-z]Error\b|BadZipFile", text)]


def test_an_h5_on_which_its_library_never_ends_or_crashes_is_damaged(files, tmp_path, monkeypatch):
    shutil.copy(files / "m.h5", tmp_path / "m.h5")
    for script, reason in (("while True: pass", "does not end"), ("import os; os.abort()", "crashes on it")):
        monkeypatch.setattr(load, "_READ", script)
        monkeypatch.setattr(load, "_SECONDS", 0.5)
        with pytest.raises(FileError, match=f"m.h5: the HDF5 file is damaged: .*{reason}"):
            tg.load_model(tmp_path / "m.h5")


def test_an_operator_without_inputs_is_read(files):
    lite = tg.load_litert(files / "m.tflite")
    lite.parsed.subgraphs[0].operators[0].inputs = None
    assert tg.LiteRTModel(write(lite.parsed)).quantization == "float32"


def test_damaged_text_of_an_h5_can_be_printed(files, tmp_path):
    content = (files / "m.h5").read_bytes()
    place = content.index(b'"use_bias"')
    (tmp_path / "m.h5").write_bytes(content[:place + 4] + b"\xff" + content[place + 5 :])
    with pytest.raises(FileError) as caught:
        tg.load_model(tmp_path / "m.h5")
    print(str(caught.value).encode())


@pytest.mark.parametrize("name", LOADERS)
def test_another_kind_of_file_a_folder_and_no_path(files, name, tmp_path):
    load = LOADERS[name]
    for other in LOADERS.keys() - {name}:
        if LOADERS[other] is not load:
            with pytest.raises(TfgreenError, match=other):
                load(files / other)
    for content in (b"", b"text", bytes(1000), b"PK\x03\x04" + bytes(500), b"\x89HDF\r\n\x1a\n" + bytes(500)):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(TfgreenError, match="x"):
            load(tmp_path / "x")
    with pytest.raises(FileError):
        load(tmp_path)
    for path in (None, 3, b"m", ["m"]):
        with pytest.raises(InvalidTypeError, match="path: expected"):
            load(path)


def test_a_saved_model_folder_comes_with_a_way_out(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(FileError, match=r"SavedModel \(a folder\).*tf_keras.*model.h5"):
        tg.load_model(tmp_path)


@pytest.mark.parametrize("load, name", [(tg.load_model, "m.keras"), (tg.load_compressed, "m.npz")])
def test_custom_objects_are_a_dict_of_names(files, load, name):
    for bad in ([1], "Mine", {1: keras.layers.Dense}):
        with pytest.raises(InvalidTypeError, match="custom_objects: expected a dict of name"):
            load(files / name, custom_objects=bad)


def test_a_weight_that_changed_is_found_by_its_checksum(files, tmp_path):
    source = keras.Sequential([keras.Input((3,)), keras.layers.Dense(400)])
    source.save(tmp_path / "m.keras")
    content = bytearray((tmp_path / "m.keras").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(FileError, match="m.keras"):
        tg.load_model(tmp_path / "m.keras")
    shutil.copy(files / "m.keras", tmp_path / "m.keras")
    assert np.isfinite(tg.load_model(tmp_path / "m.keras").predict(np.ones((1, 3)), verbose=0)).all()
