"""What all losses of ``tg.Distiller`` share: weights, temperatures and layers, and the checks of these.

The losses themselves are in ``distillation/losses.py``.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any, ClassVar

import keras
from keras import ops

from tfgreen.config import Config
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.capture import SIGMOID, SOFTMAX

# A schedule is checked at these steps before it is used.
_CHECKED_STEPS = (0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillationLoss(Config):
    """Base of the losses between a teacher and the student.

    A loss of your own is a frozen, ``kw_only`` dataclass derived from this or from a class below, registered with
    ``keras.saving.register_keras_serializable``, that overrides :meth:`values`.

    Attributes:
        weight: Factor in the sum of all distillation losses, >= 0.
        output: Which output of the models, where they have several: the key of a dict, or the output's name.
        teacher: Index of the only teacher that counts, where there are several; None for all of them, weighted.
    """

    weight: float = 1.0
    output: str | None = None
    teacher: int | None = None

    needs_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("weight", self.weight)
        if self.weight < 0:
            raise invalid_value("weight", expected="a number >= 0", received=self.weight)

    def values(self, teacher: Any, student: Any, **context: Any) -> Any:
        """The loss of each position, shape ``(batch, ...)``, from the tensors compared.

        ``context`` holds ``activation`` (``"softmax"`` or ``"sigmoid"``, for logits), ``labels``, ``weights`` (sample
        weights times mask, at each position) and ``step``.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement values(teacher, student, **context).")

    def get_config(self) -> dict[str, Any]:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: serialize_schedule(value) for name, value in fields.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DistillationLoss:
        return cls(**{name: deserialize_schedule(value) for name, value in config.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitsLoss(DistillationLoss):
    """Base of the losses that compare logits.

    Attributes:
        temperature: What logits are divided by, > 0: a number, a ``keras.optimizers.schedules`` object, or a function
            of the training step (a scalar tensor) made of ``keras.ops``.
        activation: ``"softmax"`` (one class of several) or ``"sigmoid"`` (each label on its own). None: what the models
            end in; softmax where both end in logits of two classes or more.
        from_logits: For models that do not show it by a final softmax, sigmoid or linear layer: whether they return
            logits. True, False, or a pair ``(teacher, student)`` in which None stands for what the model shows.
    """

    temperature: Any = 4.0
    activation: str | None = None
    from_logits: Any = None

    softmax_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule("temperature", self.temperature, "a number > 0", lambda value: value > 0)
        if self.activation not in (None, SOFTMAX, SIGMOID):
            raise invalid_value("activation", expected="'softmax', 'sigmoid' or None", received=repr(self.activation))
        pair = self.from_logits if isinstance(self.from_logits, (tuple, list)) else (self.from_logits,) * 2
        if len(pair) != 2 or any(value not in (None, True, False) for value in pair):
            expected = "True, False, None, or a pair of these for (teacher, student)"
            raise invalid_value("from_logits", expected=expected, received=self.from_logits)
        object.__setattr__(self, "from_logits", tuple(pair))

    def temperature_at(self, step: Any) -> Any:
        return value_at(self.temperature, step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerLoss(DistillationLoss):
    """Base of the losses that compare what a layer of the teacher and one of the student return.

    Attributes:
        teacher_layer: Path (``"encoder/conv"``) or name of the teacher's layer.
        student_layer: The student's.
        output: Where the models have several outputs with sample weights of their own: whose weights apply.
    """

    teacher_layer: str | None = None
    student_layer: str | None = None

    projects: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("teacher_layer", "student_layer"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise invalid_type(name, expected="the path or name of a layer", received=value)
        if (self.teacher_layer is None) != (self.student_layer is None):
            raise invalid_value(
                type(self).__name__,
                expected="both teacher_layer and student_layer",
                received=f"teacher_layer={self.teacher_layer!r}, student_layer={self.student_layer!r}",
            )


def value_at(schedule: Any, step: Any) -> Any:
    """A number or a schedule of one, at a step."""
    return ops.cast(schedule(step), "float32") if callable(schedule) else float(schedule)


def check_number(name: str, value: Any) -> None:
    """Raise unless ``value`` is a finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise invalid_type(name, expected="a number", received=value)
    if not math.isfinite(value):
        raise invalid_value(name, expected="a finite number", received=value)


def check_schedule(name: str, schedule: Any, expected: str, allowed: Any) -> None:
    """Raise unless a number, or a schedule at a sample of steps, is allowed."""
    if not callable(schedule):
        check_number(name, schedule)
        if not allowed(schedule):
            raise invalid_value(name, expected=expected, received=schedule)
        return
    for step in _CHECKED_STEPS:
        value = float(ops.convert_to_numpy(value_at(schedule, ops.convert_to_tensor(step, "int64"))))
        if not allowed(value):
            raise invalid_value(name, expected=expected, received=f"{value:g} at step {step}")


def serialize_schedule(value: Any) -> Any:
    """A setting as plain values: a schedule object or function by its registered name."""
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def deserialize_schedule(value: Any) -> Any:
    """The inverse of :func:`serialize_schedule`."""
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value


def check_not_negative(**settings: float) -> None:
    """Raise unless all these settings are numbers >= 0."""
    for name, value in settings.items():
        check_number(name, value)
        if value < 0:
            raise invalid_value(name, expected="a number >= 0", received=value)
