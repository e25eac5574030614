"""The npz door: what fits comes in as it is, what does not is named in one line."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import tfgreen as tg
from tfgreen.errors import FileError, TfgreenError
from tfgreen.recipes.data.npz import array_names, load_samples


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


def load(path):
    return tg.Data.from_npz(path, validation_share=0)


def test_npz_comes_in_unchanged(tmp_path):
    data = load(saved(tmp_path, x_train=np.arange(24, dtype="uint8").reshape(6, 4)))
    assert data.train.x.dtype == "uint8" and data.source == data.test.source == "data.npz"
    np.testing.assert_array_equal(data.train.y, [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(data.test.x, arrays()["x_test"])
    assert list(data.splits) == ["train", "test"]


def test_several_inputs_targets_weights_and_a_validation_split(tmp_path):
    parts = {"x_train/image": np.zeros((6, 2, 2)), "x_train/size": np.ones((6, 1)), "y_train/price": np.arange(6.0),
             "y_train/kind": np.arange(6), "sample_weight_train": np.ones(6), "names": np.array(["a"])}  # fmt: skip
    validation = {name.replace("train", "val"): value[:2] for name, value in parts.items() if "train" in name}
    np.savez(tmp_path / "data.npz", **parts, **validation)
    data = load(tmp_path / "data.npz")
    assert {name: x.shape for name, x in data.train.x.items()} == {"image": (6, 2, 2), "size": (6, 1)}
    assert list(data.train.y) == ["price", "kind"] and data.train.sample_weight.shape == (6,)
    assert data.validation.count == 2 and data.validation.x["size"].shape == (2, 1)
    with pytest.raises(ValueError, match=r"no test split. Save x_test and y_test in data.npz. Or pass test_share=0.1"):
        data.test
    assert sorted(load_samples(tmp_path / "data.npz", "x_test", "x_train")) == ["image", "size"]


def test_samples_without_targets(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros((6, 2)))
    data = load(tmp_path / "data.npz")
    assert data.train.y is None and data.train.samples(3).shape == (3, 2)
    with pytest.raises(ValueError, match="The train split has no targets"):
        data.train.evaluate_arguments()


BAD = {
    "one array missing": ({"y_test": None}, "missing: y_test"),
    "two arrays missing": ({"x_train": None, "y_test": None}, "missing: x_train, y_test"),
    "labels too short": ({"y_train": np.array([0, 1])}, "y_train: expected a label for each of 6 samples, received 2"),
    "NaN": ({"x_test": np.full((3, 4), np.nan)}, "x_test: expected finite numbers, received 12 NaN"),
    "infinity": ({"x_train": np.full((6, 4), np.inf)}, "x_train: expected finite numbers, received 24 NaN or inf"),
    "objects": ({"x_train": np.array([[1], [2, 3]] * 3, dtype=object)}, "x_train, received Python objects"),
    "empty test split": ({"x_test": np.zeros((0, 4)), "y_test": np.zeros(0, int)}, "x_test: .* at least one sample"),
    "scalar": ({"x_train": np.float32(1)}, r"x_train: expected shape \(samples, ...\)"),
    "other rank": ({"x_test": np.zeros((3, 5, 1))}, r"x_test: .*\(4,\), as in x_train, received \(5, 1\)"),
    "other inputs": ({"x_test": None, "x_test/a": np.zeros((3, 4))}, "x_test: expected one array, as in x_train"),
    "both": ({"x_train/a": np.zeros((6, 4))}, "x_train/a: expected one array x_train, or several x_train/NAME"),
    "misspelled split": ({"x_validaton": np.zeros((3, 4))}, "x_validaton. Did you mean 'x_validation'"),
    "NaN target": ({"y_train": np.full(6, np.nan)}, "y_train: .*6 NaN or infinite values, the first in sample 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named_in_one_line(case, tmp_path):
    changed, message = BAD[case]
    with pytest.raises(TfgreenError, match=message) as caught:
        load(saved(tmp_path, **changed))
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
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    if os.geteuid():
        (tmp_path / "data.npz").chmod(0)
        with pytest.raises(FileError, match="cannot be read"):
            load(tmp_path / "data.npz")


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


def test_reading_data_does_not_import_tensorflow(tmp_path):
    code = (
        "import sys, tfgreen as tg; tg.Data.load(sys.argv[1]).train.samples(2)\n"
        "assert not {'tensorflow', 'keras', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(saved(tmp_path))], check=True, capture_output=True, text=True)
