"""The demo's data: what is no classifier is named in one line."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.errors import TfgreenError
from tfgreen.recipes.classification import check_task, class_data


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


def loaded(tmp_path, **changed):
    np.savez(tmp_path / "data.npz", **arrays(**changed))
    data = tg.Data.from_npz(tmp_path / "data.npz", validation_share=0)
    check_task(data)
    return class_data(data)


@pytest.mark.parametrize(
    "labels", [np.array([[2], [0], [1]], "uint8"), np.eye(3)[[2, 0, 1]], np.eye(3, dtype=bool)[[2, 0, 1]]]
)
def test_labels_of_every_form_become_class_numbers(labels, tmp_path):
    y = loaded(tmp_path, y_test=labels).test.y
    np.testing.assert_array_equal(y, [2, 0, 1])
    assert y.dtype == "int64" and y.shape == (3,)


NUMBERS = "y_test: expected class numbers .* or one-hot rows .*received shape"
BAD = {
    "no test split": ({"x_test": None, "y_test": None}, "no test split. Save x_test and y_test in data.npz"),
    "several inputs": ({"x_train": None, "x_test": None, "x_train/a": np.zeros((6, 4)), "x_test/a": np.zeros((3, 4))},
                       "x_train: expected one array of samples, received a dict"),
    "float labels": ({"y_test": np.array([0.5, 1, 1])}, NUMBERS),
    "not one-hot": ({"y_test": np.full((3, 2), 0.5)}, NUMBERS),
    "text labels": ({"y_test": np.array(["cat", "dog", "cat"])}, f"{NUMBERS}.*dtype <U3"),
    "label volume": ({"y_test": np.zeros((3, 2, 2), int)}, NUMBERS),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_named_in_one_line(case, tmp_path):
    changed, message = BAD[case]
    with pytest.raises(TfgreenError, match=message) as caught:
        loaded(tmp_path, **changed)
    assert "data.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_images_in_files_are_read_into_memory(tmp_path):
    for split, count in {"train": 3, "test": 2}.items():
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((4, 4, 3), 100.0 * label)
                keras.utils.save_img(tmp_path / split / name / f"{number}.png", pixels, scale=False)
    data = tg.Data.load(tmp_path, image_size=(4, 4), validation_share=0)
    check_task(data)
    read = class_data(data)
    assert read.train.x.shape == (6, 4, 4, 3) and read.test.x.shape == (4, 4, 4, 3)
    np.testing.assert_array_equal(read.train.y, read.train.x[:, 0, 0, 0] / 100)
    unlabelled = tg.Data.from_arrays(tf.data.Dataset.from_tensor_slices(np.zeros((6, 4))).batch(3))
    with pytest.raises(ValueError, match="the train split: expected one input and one target for each sample"):
        class_data(tg.Data.from_arrays(unlabelled.train.x, test=unlabelled.train.x))
