"""What Keras's losses take is judged as Keras computes it: what is passed, Keras computes; what Keras would broadcast
or read past the classes is named."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfgreen.errors import TfgreenError
from tfgreen.recipes.measure.target_rules import check_target

IDS, ONE_HOT = np.array([0, 2, 1]), np.eye(3)[[0, 2, 1]]
FITS = [
    (IDS, (3,), "sparse_categorical_crossentropy"),
    (IDS[:, None], (3,), keras.losses.SparseCategoricalCrossentropy()),
    (IDS.astype("float32"), (3,), "sparse_top_k_categorical_accuracy"),
    (np.zeros((2, 4, 4), int), (4, 4, 2), "accuracy"),
    (np.array([0, 2, 255]), (3,), keras.losses.SparseCategoricalCrossentropy(ignore_class=255)),
    (ONE_HOT, (3,), "categorical_crossentropy"),
    (ONE_HOT, (3,), "accuracy"),
    (np.zeros(3), (1,), "mse"),
    (np.zeros((3, 1)), (), keras.losses.MeanAbsoluteError()),
    (np.zeros((3, 5)), (None,), keras.losses.huber),
    (np.array([True, False]), (1,), "binary_crossentropy"),
    (np.array([True, False]), (1,), "accuracy"),
    (np.zeros((3, 7, 7)), (4,), lambda y, outputs: outputs),  # not known: it may take anything
    (np.zeros((3, 7)), (4,), keras.losses.CTC()),
]


@pytest.mark.parametrize("y, shape, judge", FITS)
def test_what_fits(y, shape, judge):
    check_target("y_train", y, shape, judge)


BAD = [
    (ONE_HOT, (3,), "sparse_categorical_crossentropy", "one-hot rows. Use loss='categorical_crossentropy', or"),
    (IDS, (3,), "categorical_crossentropy", "Use loss='sparse_categorical_crossentropy', or keras.utils"),
    (IDS, (2,), "sparse_categorical_crossentropy", r"class numbers from 0 to 1, .* has 2 classes, received 0\.\.2\."),
    (IDS - 1, (3,), keras.metrics.SparseCategoricalAccuracy(), r"received -1\.\.1"),
    (IDS, (2,), "accuracy", r"received 0\.\.2"),
    (IDS / 2, (3,), "sparse_categorical_crossentropy", "expected whole class numbers, received fractions"),
    (IDS, (1,), "sparse_categorical_crossentropy", "'binary_crossentropy'"),
    (IDS, (1,), "binary_crossentropy", r"y_train: expected 0 to 1, .* received 0\.\.2\. For class numbers, give"),
    (np.zeros((3, 1)), (3,), "mse", r"expected shape \('samples', 3\).*received shape \(3, 1\)"),  # would be broadcast
    (np.zeros(3), (3,), keras.losses.Huber(), r"expected shape \('samples', 3\).*received shape \(3,\)"),
    (np.array([0.0, np.nan]), (1,), "mae", "finite numbers, received 1 NaN"),
    (np.array(["cat", "dog"]), (2,), "accuracy", "expected an array of numbers.*names.index"),
    (np.zeros((2, 4, 3), int), (4, 4, 2), "sparse_categorical_crossentropy", r"numbers of shape \('samples', 4, 4"),
]


@pytest.mark.parametrize("y, shape, judge, message", BAD)
def test_what_does_not_fit_is_named_with_the_remedy(y, shape, judge, message):
    with pytest.raises(TfgreenError, match=message) as caught:
        check_target("y_train", y, shape, judge)
    assert "\n" not in str(caught.value)
