from __future__ import annotations

import numpy as np
import pytest

import tfgreen as tg
from tfgreen.errors import TfgreenError

X, Y = np.arange(40.0), np.arange(40) % 4


def test_what_is_not_given_is_drawn_and_told():
    data = tg.Data.from_arrays(X, Y, test_share=0.2, validation_share=0.25, seed=3)
    assert {name: split.count for name, split in data.splits.items()} == {"train": 24, "validation": 8, "test": 8}
    assert sorted(np.concatenate([split.x for split in data.splits.values()])) == X.tolist()
    for split in data.splits.values():
        np.testing.assert_array_equal(split.y, split.x % 4)
        assert len(set(np.bincount(split.y))) == 1  # as many of each class
    assert data.test.source == "arrays: 20% of the training samples, drawn by class with seed 3"
    assert data.to_dict()["splits"]["validation"] == {"samples": 8, "source": data.validation.source}
    assert data.train.source == "arrays, without those drawn for test, without those drawn for validation"
    regression = tg.Data.from_arrays([X, X], X / 3, np.ones(40))
    assert "by class" not in regression.validation.source and regression.validation.sample_weight.shape == (4,)


def test_what_is_given_stays_and_is_named():
    data = tg.Data(tg.Split(X, Y), tg.Split(X[:3], Y[:3]), seed=1)
    assert data.train.count == 40 and data.validation.name == "validation"
    with pytest.raises(TfgreenError, match=r"\(arrays\) has no test split. Pass it as test. Or pass test_share=0.1"):
        data.test
    with pytest.raises(TfgreenError, match="no validation split"):
        tg.Data.from_arrays(X, Y, validation_share=0).validation


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: tg.Data(X), "train: expected a tg.Split, received ndarray"),
        (lambda: tg.Data.from_arrays(X, Y, sed=1), "'sed' is no field of SplitConfig. Did you mean 'seed'"),
        (lambda: tg.Data.from_arrays(X, Y, test=X), "received y_train; missing: y_test"),
        (lambda: tg.Data.from_arrays(X, Y, test={"a": X}), "y for each split|x_test: expected"),
        (lambda: tg.Data.from_arrays(X, Y, test=[X, Y]), "test: expected a tuple"),
        (lambda: tg.Data.from_arrays(X, Y, test=(X, Y[:3])), "y_test: expected a label for each of 40 samples"),
        (lambda: tg.Data.from_arrays(X[:1], Y[:1]), "expected two samples or more to draw a split from, received 1"),
        (lambda: tg.Data.from_arrays(X, Y).with_image_size(2, 2), "is no folder of images"),
        (lambda: tg.Data.from_arrays(X, Y).with_image_size(0, 2), "image_size: expected an integer >= 1"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(TfgreenError, match=message):
        make()
