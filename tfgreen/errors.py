"""Errors written for the user: what was wrong, what was expected, what was received, and how to fix it.

Every error that tfgreen raises on purpose is a :class:`TfgreenError`, so that the command line can print its one
line and exit, while anything else is a bug and keeps its traceback.
"""

from __future__ import annotations


class TfgreenError(Exception):
    """Base of every error whose message is meant for the user."""


class InvalidValueError(TfgreenError, ValueError):
    """A value of the right type that cannot be used."""


class InvalidTypeError(TfgreenError, TypeError):
    """A value of the wrong type."""


class FileError(TfgreenError, OSError):
    """A file that cannot be read or written, or does not hold what it should."""


class ConversionError(TfgreenError, RuntimeError):
    """A model that the LiteRT converter or interpreter refuses."""


def _message(subject: str, expected: str, received: object, fix: str) -> str:
    text = f"{subject}: expected {expected}, received {received}."
    return f"{text} {fix}" if fix else text


def invalid_value(subject: str, *, expected: str, received: object, fix: str = "") -> InvalidValueError:
    """Build the error for a value that cannot be used.

    Args:
        subject: What the value belongs to: an argument (``"final_sparsity"``) or a layer
            (``"layer 'block1/conv' (Conv2D)"``, see :func:`layer_subject`).
        expected: What would have been right, as a phrase.
        received: What it was instead.
        fix: A sentence that says what to change.

    Example:
        >>> str(invalid_value("final_sparsity", expected="a number in [0, 1)", received=1.5))
        'final_sparsity: expected a number in [0, 1), received 1.5.'
    """
    return InvalidValueError(_message(subject, expected, received, fix))


def invalid_type(subject: str, *, expected: str, received: object, fix: str = "") -> InvalidTypeError:
    """Build the error for a value of the wrong type; ``received`` is the value itself, its type is named.

    Example:
        >>> str(invalid_type("model", expected="a keras.Model", received=3))
        'model: expected a keras.Model, received int.'
    """
    return InvalidTypeError(_message(subject, expected, type(received).__name__, fix))


def invalid_state(sentence: str, fix: str = "") -> InvalidValueError:
    """Build the error for something whose state, not whose value, is in the way: a plain sentence and a remedy.

    Example:
        >>> str(invalid_state("model 'net' has no weights yet.", "Call it once on a batch of data."))
        "model 'net' has no weights yet. Call it once on a batch of data."
    """
    return InvalidValueError(f"{sentence} {fix}" if fix else sentence)


def layer_subject(path: str, layer: object) -> str:
    """Name a layer in an error: its path in the model and its class.

    Example:
        >>> layer_subject("encoder/conv", object())
        "layer 'encoder/conv' (object)"
    """
    return f"layer '{path}' ({type(layer).__name__})"
