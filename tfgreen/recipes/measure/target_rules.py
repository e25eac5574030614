"""What the losses and metrics of Keras take as targets, and how to mend others."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfgreen.errors import invalid_type, invalid_value
from tfgreen.typing import Shape

# Losses that compare targets and outputs of one shape, as the classes of Keras are called, in small letters.
_SAME_SHAPE = (
    "binarycrossentropy binaryfocalcrossentropy categoricalcrossentropy categoricalfocalcrossentropy categoricalhinge "
    "cosinesimilarity dice hinge huber kldivergence logcosh meanabsoluteerror meanabsolutepercentageerror "
    "meansquarederror meansquaredlogarithmicerror poisson squaredhinge tversky"
).split()
_ONE_HOT = ("categoricalcrossentropy", "categoricalfocalcrossentropy", "categoricalhinge")
_BINARY = ("binarycrossentropy", "binaryfocalcrossentropy")
_CLASS_NUMBERS = ("sparsecategoricalcrossentropy", "sparsecategoricalaccuracy", "sparsetopkcategoricalaccuracy")
_EITHER = ("accuracy", "acc", "crossentropy", "ce")  # of class numbers or of the same shape, as Keras finds out


def check_target(subject: str, y: np.ndarray, shape: Shape, judge: Any) -> None:
    """Raise unless targets are what a loss or a metric takes, for an output of ``shape`` (without samples).

    What is not known of Keras is taken for one that takes them.

    Example:
        >>> check_target("y_train", np.array([[0.0], [1.0]]), (1,), "binary_crossentropy")
        >>> check_target("y_train", np.array([0, 7]), (5,), "sparse_categorical_crossentropy")
        Traceback (most recent call last):
        ...
        tfgreen.errors.InvalidValueError: y_train: expected class numbers from 0 to 4, as the output has 5 classes, \
received 0..7. Number the classes from 0, or give the model one output for each.
    """
    name = _name(judge)
    word = judge if isinstance(judge, str) else str(getattr(judge, "name", None) or getattr(judge, "__name__", ""))
    if name not in (*_SAME_SHAPE, *_CLASS_NUMBERS, *_EITHER):
        return
    if y.dtype.kind not in "fiub" and y.dtype.name != "bfloat16":
        fix = "Number them in the order of the outputs: np.array([names.index(label) for label in y])."
        raise invalid_type(f"{subject} (dtype {y.dtype})", expected="an array of numbers", received=y, fix=fix)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        received = f"{int((~np.isfinite(y)).sum())} NaN or infinite values"
        raise invalid_value(subject, expected="finite numbers", received=received, fix="Leave those samples out.")
    given, classes = y.shape[1:], shape[-1] if shape else None
    is_same = _matches(given, shape) or (shape[-1:] == (1,) and _matches(given, shape[:-1]))
    are_numbers = classes not in (None, 1) and (_matches(given, shape[:-1]) or _matches(given, (*shape[:-1], 1)))
    if name in _CLASS_NUMBERS or (name in _EITHER and not is_same):
        _check_class_numbers(subject, y, shape, word, is_same, are_numbers, getattr(judge, "ignore_class", None))
    elif name in _SAME_SHAPE:
        if not is_same and not (given[-1:] == (1,) and _matches(given[:-1], shape)):
            fix = ""
            if are_numbers and y.dtype.kind in "iub" and name in _ONE_HOT:
                fix = f"Use loss='sparse_categorical_crossentropy', or keras.utils.to_categorical(y, {classes})."
            expected = f"shape {('samples', *shape)}, as the output has it and {word} takes it"
            raise invalid_value(subject, expected=expected, received=f"shape {y.shape}, dtype {y.dtype}", fix=fix)
        if name in _BINARY and y.size and (y.min() < 0 or y.max() > 1):
            fix = "For class numbers, give the model an output for each class and use sparse_categorical_crossentropy."
            raise invalid_value(subject, expected=f"0 to 1, as {word} takes it", received=_range(y), fix=fix)


def _check_class_numbers(
    subject: str, y: np.ndarray, shape: Shape, word: str, is_same: bool, are_numbers: bool, ignored: int | None
) -> None:
    classes = shape[-1] if shape else 1
    if classes == 1:
        fix = "One score is for two classes: use 'binary_crossentropy' or 'binary_accuracy'."
        raise invalid_value(f"the output that {subject} is for", expected="a score for each class", received="one",
                            fix=fix)  # fmt: skip
    if is_same and not are_numbers:
        fix = "Use loss='categorical_crossentropy', or y.argmax(axis=-1)."
        expected = f"class numbers, as {word} takes them"
        raise invalid_value(subject, expected=expected, received="one-hot rows", fix=fix)
    if not are_numbers and classes is not None:
        expected = f"class numbers of shape {('samples', *shape[:-1])}"
        raise invalid_value(subject, expected=expected, received=f"shape {y.shape}")
    counted = y if ignored is None else y[y != ignored]
    if counted.dtype.kind == "f" and (counted % 1 != 0).any():
        raise invalid_value(subject, expected="whole class numbers", received="fractions", fix="Use a loss of numbers.")
    if classes is not None and counted.size and (counted.min() < 0 or counted.max() >= classes):
        expected = f"class numbers from 0 to {classes - 1}, as the output has {classes} classes"
        fix = "Number the classes from 0, or give the model one output for each."
        raise invalid_value(subject, expected=expected, received=_range(counted), fix=fix)


def _name(judge: Any) -> str:
    """The name of a loss or metric of Keras in small letters, as its class has it; an empty one of another."""
    if isinstance(judge, str):
        if judge in _EITHER:
            return judge
        for module in (keras.losses, keras.metrics):
            try:
                return _name(module.get(judge))
            except ValueError:
                continue
        return ""
    own = getattr(judge, "__name__", type(judge).__name__)
    kind = judge if hasattr(judge, "__name__") else type(judge)
    is_keras = any(getattr(module, own, None) is kind for module in (keras.losses, keras.metrics))
    return own.replace("_", "").lower() if is_keras else ""


def _matches(given: Shape, shape: Shape) -> bool:
    """Whether sizes are those of a shape, of which None is open."""
    return len(given) == len(shape) and all(None in (a, b) or a == b for a, b in zip(given, shape))


def _range(y: np.ndarray) -> str:
    return f"{y.min():.6g}..{y.max():.6g}" if y.dtype.kind == "f" else f"{y.min()}..{y.max()}"
