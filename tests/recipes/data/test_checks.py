from __future__ import annotations

import numpy as np
import pytest

from tfgreen.recipes.data.checks import check_alike, check_array, check_arrays, named_leaves, stratum


def test_every_array_of_a_structure_has_a_name():
    assert named_leaves({"a": 1, "b": {"c": 2}}) == {"a": 1, "b_c": 2} and list(named_leaves([1, 2])) == ["0", "1"]


@pytest.mark.parametrize(
    "array, message",
    [
        ([1, 2], "x: expected an array, received list. Pass arrays in a list or a dict"),
        (np.float32(1), "x: expected an array"),
        (np.zeros((0, 3)), r"x: expected shape \(samples, ...\) with at least one sample"),
        (np.array([1j]), "x: expected an array of numbers, received dtype complex128"),
        (np.array([None]), r"dtype object. Turn it into numbers, or texts with x.astype\(str\)"),
        (np.array([[1.0], [np.inf], [np.nan]]), "x: expected finite numbers, received 2 NaN .* first in sample 1"),
    ],
)
def test_an_array_that_is_none_is_named(array, message):
    with pytest.raises((ValueError, TypeError), match=message):
        check_array("x", array)


def test_numbers_and_texts_pass_and_lengths_are_counted():
    assert check_arrays("x", {"a": np.array(["word"]), "b": np.zeros((1, 2), bool)}) == 1
    with pytest.raises(ValueError, match="x_test/1: expected an entry for each of 2 samples, received 3"):
        check_arrays("x_test", [np.zeros(2), np.zeros(3)])
    with pytest.raises(ValueError, match="x: expected one array or more"):
        check_arrays("x", {})


def test_splits_that_differ_are_named():
    whole = {"x": {"": (4,)}, "y": {"": ()}}
    check_alike({"train": whole, "validation": {"x": {"": (9,)}, "y": {"": ()}}})  # sizes may differ
    check_alike({"train": whole, "validation": {"x": {"": None}, "y": {"": None}}})
    with pytest.raises(ValueError, match="received y_train; missing: y_test. Pass y_test too"):
        check_alike({"train": whole, "test": {"x": {"": (4,)}, "y": {}}})
    with pytest.raises(ValueError, match="y_test: expected one array, as in y_train, received arrays a, b"):
        check_alike({"train": whole, "test": {"x": {"": (4,)}, "y": {"a": (), "b": ()}}})
    with pytest.raises(ValueError, match=r"x_test: expected samples of shape \(4,\), as in x_train, received \(\)"):
        check_alike({"train": whole, "test": {"x": {"": ()}, "y": {"": ()}}})


def test_classes_are_read_off_labels_only():
    assert stratum(np.array([True, False])).tolist() == [1, 0] and stratum(np.array(["a"])).tolist() == ["a"]
    assert stratum(np.zeros((2, 3))) is None and stratum(np.zeros((2, 2, 2), int)) is None
    assert stratum(np.ones(3)) is None and stratum({"a": np.ones(3, int)}) is None
