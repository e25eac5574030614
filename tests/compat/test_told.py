"""What compat says: differences once, answers as errors."""

from __future__ import annotations

import warnings

import keras
import pytest

from tfgreen import compat as tfmot
from tfgreen.compat.told import TfmotWarning, raise_answer, tell_difference


def test_a_difference_is_told_once():
    with pytest.warns(TfmotWarning, match="some_name differs from TFMOT on purpose: it is better"):
        tell_difference("some_name", "it is better")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_difference("some_name", "it is better")


def test_an_answer_names_the_way():
    with pytest.raises(ValueError, match="some_name of TFMOT has no counterpart in tfgreen. Do this."):
        raise_answer("some_name", "Do this.")


def test_it_points_to_the_line_of_the_user():
    tell_difference.cache_clear()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.warns(TfmotWarning) as caught:
        tfmot.quantization.keras.quantize_model(model)
        tfmot.sparsity.keras.prune_low_magnitude(model)
    assert [warning.filename for warning in caught if warning.category is TfmotWarning] == [__file__, __file__]
