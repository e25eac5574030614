"""The handwritten digits of scikit-learn, for the demo."""

from __future__ import annotations

from tfgreen.errors import FileError
from tfgreen.recipes.data.data import Data


def load_digits_data(seed: int = 0, validation_share: float = 0.0) -> Data:
    """The 1,797 handwritten digits of scikit-learn, float32 of shape ``(samples, 8, 8, 1)`` from 0 to 1; no download.

    Real handwriting of 43 people (UCI "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak, 1998). A fifth
    of each of the ten classes is the test split, drawn with ``seed``; so is the validation split, if there is a share.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        fix = 'Install it with pip install "tfgreen[demo]".'
        raise FileError(f"The digits come with scikit-learn, which is not installed. {fix}") from error
    digits = load_digits()
    images = (digits.images / 16.0).astype("float32")[..., None]
    x, x_test, y, y_test = train_test_split(
        images, digits.target, test_size=0.2, random_state=seed, stratify=digits.target
    )
    source = "scikit-learn's handwritten digits"
    y, y_test = y.astype("int64"), y_test.astype("int64")
    return Data.from_arrays(
        x, y, test=(x_test, y_test), source=source, validation_share=validation_share, seed=seed
    )
