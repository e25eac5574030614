"""What compat says: differences once, answers as errors."""

from __future__ import annotations

import warnings

import pytest

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
