"""The digits of the demo."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tfgreen.errors import FileError
from tfgreen.recipes.data.digits import load_digits_data


def test_digits_are_split_by_seed_and_class():
    first, again, other = load_digits_data(1), load_digits_data(1), load_digits_data(2)
    np.testing.assert_array_equal(first.test.x, again.test.x)
    assert not np.array_equal(first.test.y, other.test.y)
    assert first.train.x.dtype == "float32" and first.train.x.min() == 0 and first.train.x.max() == 1
    assert np.ptp(np.bincount(first.test.y)) <= 3
    assert not set(first.splits) - {"train", "test"} and load_digits_data(1, 0.1).validation.count == 144
    together = np.concatenate([first.train.x, first.test.x]).reshape(1797, -1)
    assert len(together) == 1797 and abs(together.sum() - np.concatenate([other.train.x, other.test.x]).sum()) < 1


def test_without_scikit_learn_the_fix_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(FileError, match=r'pip install "tfgreen\[demo\]"'):
        load_digits_data()
