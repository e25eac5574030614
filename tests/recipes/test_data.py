"""The npz door: what fits comes in as it is, what does not is named in one line."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests import zoo
from tfgreen.errors import FileError, TfgreenError
from tfgreen.recipes.data import Data, array_names, check_fits, load_digits_data, load_npz, load_samples


def arrays(**changed):
    """A tiny task; an array set to None is left out."""
    rng = np.random.default_rng(0)
    whole = {
        "x_train": rng.normal(size=(6, 4)).astype("float32"),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": rng.normal(size=(3, 4)).astype("float32"),
        "y_test": np.array([0, 1, 2]),
    }
    return {name: value for name, value in {**whole, **changed}.items() if value is not None}


def saved(tmp_path, **changed):
    np.savez(tmp_path / "data.npz", **arrays(**changed))
    return tmp_path / "data.npz"


def test_npz_comes_in_unchanged(tmp_path):
    data = load_npz(saved(tmp_path, x_train=np.arange(24, dtype="uint8").reshape(6, 4)))
    assert data.x_train.dtype == "uint8" and data.classes == 3 and data.source == "data.npz"
    np.testing.assert_array_equal(data.y_train, [0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    "labels", [np.array([[2], [0], [1]], "uint8"), np.eye(3)[[2, 0, 1]], np.eye(3, dtype=bool)[[2, 0, 1]]]
)
def test_labels_of_every_form_become_class_numbers(labels, tmp_path):
    y = load_npz(saved(tmp_path, y_test=labels)).y_test
    np.testing.assert_array_equal(y, [2, 0, 1])
    assert y.dtype == "int64" and y.shape == (3,)


BAD = {
    "one array missing": ({"y_test": None}, "missing: y_test"),
    "two arrays missing": ({"x_train": None, "y_test": None}, "missing: x_train, y_test"),
    "labels too short": ({"y_train": np.array([0, 1])}, "y_train: expected a label for each of 6 samples, received 2"),
    "NaN": ({"x_test": np.full((3, 4), np.nan)}, "x_test: expected finite numbers, received 12 NaN"),
    "infinity": ({"x_train": np.full((6, 4), np.inf)}, "x_train: expected finite numbers, received 24 NaN or inf"),
    "objects": ({"x_train": np.array([[1], [2, 3]] * 3, dtype=object)}, "x_train, received Python objects"),
    "texts": ({"x_train": np.array([["a"] * 4] * 6)}, "x_train: expected an array of numbers"),
    "empty test split": ({"x_test": np.zeros((0, 4)), "y_test": np.zeros(0, int)}, "x_test: .* at least one sample"),
    "scalar": ({"x_train": np.float32(1)}, r"x_train: expected shape \(samples, ...\)"),
    "other sample shape": ({"x_test": np.zeros((3, 5))}, r"x_test: .*\(4,\), as in x_train, received \(5,\)"),
    "negative labels": ({"y_test": np.array([0, -1, 1])}, "y_test: expected class numbers from 0, received -1"),
    "float labels": ({"y_test": np.array([0.5, 1, 1])}, "y_test: expected whole class numbers"),
    "not one-hot": ({"y_test": np.full((3, 2), 0.5)}, "3 rows that are not one-hot"),
    "text labels": ({"y_test": np.array(["cat", "dog", "cat"])}, "y_test: expected class numbers .*dtype <U3"),
    "label volume": ({"y_test": np.zeros((3, 2, 2), int)}, r"y_test: .*shape \(3, 2, 2\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named_in_one_line(case, tmp_path):
    changed, message = BAD[case]
    with pytest.raises(TfgreenError, match=message) as caught:
        load_npz(saved(tmp_path, **changed))
    assert "data.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_npz(tmp_path):
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "random.npz").write_bytes(b"PK" + bytes(100))
    whole = saved(tmp_path).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    at = whole.index(b"NUMPY") + 200
    (tmp_path / "flipped.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    for name, message in {
        "absent.npz": "no such file",
        ".": "received a folder",
        "single.npy": "received something else",
        "random.npz": "received something else",
        "cut.npz": "received something else",
        "flipped.npz": "damaged data",
    }.items():
        with pytest.raises(FileError, match=message) as caught:
            load_npz(tmp_path / name)
        assert "\n" not in str(caught.value)
    if os.geteuid():
        (tmp_path / "data.npz").chmod(0)
        with pytest.raises(FileError, match="cannot be read"):
            load_npz(tmp_path / "data.npz")


def test_samples_alone(tmp_path):
    file = saved(tmp_path, y_test=None, x_train=None)
    np.testing.assert_array_equal(load_samples(file, "x", "x_test"), arrays()["x_test"])
    np.savez(tmp_path / "named.npz", left=np.zeros((2, 3)), right=np.ones((2, 1)))
    both = load_samples(tmp_path / "named.npz", "x", "z")
    assert list(both) == ["left", "right"] and both["right"].shape == (2, 1)
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(FileError, match="expected an array named x or z, received no arrays"):
        load_samples(tmp_path / "empty.npz", "x", "z")
    with pytest.raises(TfgreenError, match=r"data.npz: y_train: expected shape \(samples, ...\)"):
        load_samples(file, "x", "z")  # all arrays, of which one is no input
    with pytest.raises(TfgreenError, match="data.npz: x_test: .*NaN"):
        load_samples(saved(tmp_path, x_test=np.full((3, 4), np.nan)), "x_test")
    assert array_names(file) == ["x_train", "y_train", "x_test", "y_test"]


def test_digits_are_split_by_seed_and_class():
    first, again, other = load_digits_data(1), load_digits_data(1), load_digits_data(2)
    np.testing.assert_array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.y_test, other.y_test)
    assert first.x_train.dtype == "float32" and first.x_train.min() == 0 and first.x_train.max() == 1
    assert np.ptp(np.bincount(first.y_test)) <= 3
    together = np.concatenate([first.x_train, first.x_test]).reshape(1797, -1)
    assert len(together) == 1797 and abs(together.sum() - np.concatenate([other.x_train, other.x_test]).sum()) < 1


def test_without_scikit_learn_the_fix_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(FileError, match=r'pip install "tfgreen\[demo\]"'):
        load_digits_data()


def test_a_model_that_does_not_fit_is_named():
    data = Data(**arrays(), source="made up")
    check_fits(data, keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))
    check_fits(data, keras.Sequential([keras.Input((None,)), keras.layers.Reshape((4,)), keras.layers.Dense(3)]))
    subclassed = zoo.TwoLayerNet(4)
    subclassed(np.zeros((1, 4), "float32"))
    check_fits(data, subclassed)
    with pytest.raises(ValueError, match=r"x_train: expected samples of shape \(5,\).*received \(4,\)"):
        check_fits(data, keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)], name="net"))
    with pytest.raises(ValueError, match="labels from 0 to 1, as model 'net' has 2 outputs, received labels up to 2"):
        check_fits(data, keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="net"))
    for build in (zoo.multi_io, zoo.shared_layer):
        with pytest.raises(ValueError, match="expected a classifier: one input, one output"):
            check_fits(data, build())
    with pytest.raises(ValueError, match="expected a classifier"):
        check_fits(data, keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]))


def test_reading_data_does_not_import_tensorflow(tmp_path):
    code = (
        "import sys; from tfgreen.recipes.data import load_npz; load_npz(sys.argv[1])\n"
        "assert not {'tensorflow', 'keras', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(saved(tmp_path))], check=True, capture_output=True, text=True)
