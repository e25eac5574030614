"""The demo's data: what is no classifier is named in one line."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tests import zoo
from tfgreen.errors import TfgreenError
from tfgreen.recipes.classification import Classification, check_fits, check_task, load_classification


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


@pytest.mark.parametrize(
    "labels", [np.array([[2], [0], [1]], "uint8"), np.eye(3)[[2, 0, 1]], np.eye(3, dtype=bool)[[2, 0, 1]]]
)
def test_labels_of_every_form_become_class_numbers(labels, tmp_path):
    y = Classification.of(load_classification(saved(tmp_path, y_test=labels))).y_test
    np.testing.assert_array_equal(y, [2, 0, 1])
    assert y.dtype == "int64" and y.shape == (3,)


BAD = {
    "no test split": ({"x_test": None, "y_test": None}, "no test split. Save x_test and y_test in data.npz"),
    "texts": ({"x_train": np.array([["a"] * 4] * 6)}, "x_train: expected an array of numbers"),
    "several inputs": ({"x_train": None, "x_test": None, "x_train/a": np.zeros((6, 4)), "x_test/a": np.zeros((3, 4))},
                       "x_train: expected one array, received a dict"),
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
        load_classification(saved(tmp_path, **changed))
    assert "data.npz" in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_that_does_not_fit_is_named():
    data = Classification(**arrays(), source="made up")
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


def test_images_in_files_are_read_into_memory(tmp_path):
    for split, count in {"train": 3, "test": 2}.items():
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((4, 4, 3), 100.0 * label)
                keras.utils.save_img(tmp_path / split / name / f"{number}.png", pixels, scale=False)
    data = tg.Data.load(tmp_path, image_size=(4, 4), validation_share=0)
    check_task(data)
    read = Classification.of(data)
    assert read.x_train.shape == (6, 4, 4, 3) and read.x_test.shape == (4, 4, 4, 3)
    np.testing.assert_array_equal(read.y_train, read.x_train[:, 0, 0, 0] / 100)
    unlabelled = tg.Data.from_arrays(tf.data.Dataset.from_tensor_slices(np.zeros((6, 4))).batch(3))
    with pytest.raises(ValueError, match="the train split: expected one input and one target for each sample"):
        Classification.of(tg.Data.from_arrays(unlabelled.train.x, test=unlabelled.train.x))
