"""Errors: sentences that name the subject, what came, what was expected and the fix; and classes to catch."""

from __future__ import annotations

import pytest

from tfgreen import errors
from tfgreen.errors import (
    ConversionError,
    FileError,
    TfgreenError,
    invalid_state,
    invalid_type,
    invalid_value,
    layer_subject,
)


def test_errors_say_subject_expected_received_and_fix():
    error = invalid_value("frequency", expected="an integer > 0", received=0, fix="Leave it out for 100.")
    assert str(error) == "frequency: expected an integer > 0, received 0. Leave it out for 100."
    assert isinstance(invalid_type("model", expected="a keras.Model", received=3), TypeError)
    assert str(invalid_value("x", expected="a", received="b")) == "x: expected a, received b."
    assert error.subject == "frequency" and invalid_state("No.").subject == ""


def test_a_wrong_type_is_named_not_shown():
    assert str(invalid_type("x", expected="an array", received=[1] * 99)) == "x: expected an array, received list."


def test_a_state_is_a_plain_sentence():
    assert str(invalid_state("There is nothing.", "Make some.")) == "There is nothing. Make some."
    assert str(invalid_state("There is nothing.")) == "There is nothing."


def test_a_layer_is_named_by_path_and_class():
    assert layer_subject("a/b", 1.5) == "layer 'a/b' (float)"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (invalid_value("x", expected="a", received="b"), ValueError),
        (invalid_state("No."), ValueError),
        (invalid_type("x", expected="a", received="b"), TypeError),
        (FileError("x"), OSError),
        (ConversionError("x"), RuntimeError),
    ],
)
def test_each_is_caught_as_tfgreens_own_and_as_pythons(error, builtin):
    assert isinstance(error, TfgreenError) and isinstance(error, builtin)


def test_every_class_derives_from_the_one_base():
    types = [value for value in vars(errors).values() if isinstance(value, type)]
    classes = [cls for cls in types if cls.__module__ == errors.__name__]
    assert len(classes) == 5 and all(issubclass(cls, TfgreenError) for cls in classes)
