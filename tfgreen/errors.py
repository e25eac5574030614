"""Errors written for the user: what was wrong, what was expected, what was received, and how to fix it.

Every error that tfgreen raises on purpose is a :class:`TfgreenError`, so that the command line can print its one
line and exit, while anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

E = TypeVar("E", bound="TfgreenError")


class TfgreenError(Exception):
    """Base of every error whose message is meant for the user; ``subject`` is what it begins with, where known."""

    subject = ""


class InvalidValueError(TfgreenError, ValueError):
    """A value of the right type that cannot be used."""


class InvalidTypeError(TfgreenError, TypeError):
    """A value of the wrong type."""


class FileError(TfgreenError, OSError):
    """A file that cannot be read or written, or does not hold what it should."""


class ConversionError(TfgreenError, RuntimeError):
    """A model that the LiteRT converter or interpreter refuses."""


def _build(cls: type[E], subject: str, expected: str, received: object, fix: str) -> E:
    error = cls(f"{subject}: expected {expected}, received {received}. {fix}".rstrip())
    error.subject = subject
    return error


def invalid_value(subject: str, *, expected: str, received: object, fix: str = "") -> InvalidValueError:
    """Build the error for a value that cannot be used.

    ``subject`` is the argument or the layer (:func:`layer_subject`) that has the value, ``expected`` what would have
    been right, as a phrase, ``fix`` a sentence that says what to change.

    Example:
        >>> str(invalid_value("final_sparsity", expected="a number in [0, 1)", received=1.5))
        'final_sparsity: expected a number in [0, 1), received 1.5.'
    """
    return _build(InvalidValueError, subject, expected, received, fix)


def invalid_type(subject: str, *, expected: str, received: object, fix: str = "") -> InvalidTypeError:
    """Build the error for a value of the wrong type; ``received`` is the value itself, its type is named."""
    return _build(InvalidTypeError, subject, expected, type(received).__name__, fix)


def invalid_state(sentence: str, fix: str = "") -> InvalidValueError:
    """Build the error for something whose state, not whose value, is in the way: a plain sentence and a remedy."""
    return InvalidValueError(f"{sentence} {fix}".rstrip())


def layer_subject(path: str, layer: object) -> str:
    """Name a layer in an error: its path in the model, of which the path is ``""``, and its class."""
    what = f"layer '{path}'" if path else f"model '{getattr(layer, 'name', '')}'"
    return f"{what} ({type(layer).__name__})"


def reason_of(error: Exception) -> str:
    """The line of an error of Keras or TensorFlow that says what is wrong, without calls, nodes and values.

    Example:
        >>> reason_of(ValueError("Graph execution error:\\n\\nDetected at node a\\n  File a.py\\nbad label. [Op:A]"))
        'bad label'
    """
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*|  +Label values.*", "", str(error))
    around = r"\s*(File|\[\[|Detected at|Graph exec|$)"
    lines = [line.strip() for line in text.splitlines() if not re.match(around, line)]
    return lines[0].rstrip(".") if lines else type(error).__name__


def listed(items: Sequence[object], most: int = 10) -> str:
    """The first of many items, and how many more there are.

    Example:
        >>> listed(range(14))
        '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9] and 4 more'
    """
    rest = len(items) - most
    return f"{[*items[:most]]}" + (f" and {rest} more" if rest > 0 else "")
