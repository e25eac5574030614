"""Sparsity schedules: which sparsity at which step. TFMOT's classes compute; this file is the only door to TFMOT.

References: M. Zhu and S. Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878 (the polynomial);
``tfmot.sparsity.keras.PolynomialDecay`` and ``ConstantSparsity``, whose names and argument order are kept.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import TypeAlias

import keras

from tfgreen.checks import check_integer, check_number
from tfgreen.config import Config
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.typing import PlainDict


@functools.cache
def _tfmot_schedules() -> ModuleType:
    """TFMOT's schedule module, imported without its side effects.

    Importing it sets ``TF_USE_LEGACY_KERAS``, with which a first look at ``tf.keras`` finds Keras 2. So the first look
    comes before, and the variable is put back. What it uses of Python's deprecated parts is no concern of the user's.
    """
    import tensorflow as tf

    tf.keras.__version__
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from tensorflow_model_optimization.python.core.sparsity.keras import pruning_schedule
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
    return pruning_schedule


@dataclasses.dataclass(frozen=True)
class SparsitySchedule(Config):
    """Base of the schedules: plain numbers in, plain numbers out. Steps count finished batches, from 0.

    Example:
        >>> class Linear(SparsitySchedule):
        ...     def updates_at(self, step):
        ...         return step % 10 == 0
        ...     def sparsity_at(self, step):
        ...         return min(step / 200, 0.5)
        >>> Linear()(50)
        (True, 0.25)
    """

    def updates_at(self, step: int) -> bool:
        """Whether the masks are computed anew at this step."""
        raise NotImplementedError

    def sparsity_at(self, step: int) -> float:
        """The share of zeros at this step, in [0, 1)."""
        raise NotImplementedError

    @property
    def goal(self) -> tuple[int, float] | None:
        """The step of the first update with the sparsity of the end, and that; None where it is not known."""
        return None

    def __call__(self, step: int) -> tuple[bool, float]:
        """TFMOT's call: ``(should_prune, sparsity)``, as Python values."""
        return self.updates_at(step), self.sparsity_at(step)

    def get_config(self) -> PlainDict:
        return dict(self.to_dict()["config"])

    @classmethod
    def from_config(cls, config: PlainDict) -> SparsitySchedule:
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class PolynomialDecay(SparsitySchedule):
    """Sparsity that rises from ``initial_sparsity`` to ``final_sparsity``, fast at first.

    ``s(t) = final + (initial - final) * (1 - p)^power`` with ``p = (t - begin) / (end - begin)`` clipped to [0, 1].
    The masks are computed anew at ``begin_step`` and every ``frequency`` steps until ``end_step``. With
    ``begin_step == end_step`` the final sparsity is reached at once.

    Args:
        initial_sparsity: Share of zeros at ``begin_step``, in [0, 1).
        final_sparsity: Share of zeros at ``end_step``, in [0, 1).
        begin_step: Step of the first update, >= 0.
        end_step: Step of the last one, >= ``begin_step``.
        power: Exponent, > 0.
        frequency: Steps between two updates, >= 1.

    Raises:
        ValueError, TypeError: An argument is out of its range or of another type.

    Example:
        >>> schedule = PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000)
        >>> round(schedule.sparsity_at(500), 4), schedule.updates_at(500), schedule.updates_at(501)
        (0.7, True, False)
    """

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    power: float = 3
    frequency: int = 100

    def __post_init__(self) -> None:
        _check_sparsity("initial_sparsity", self.initial_sparsity)
        _check_sparsity("final_sparsity", self.final_sparsity)
        check_integer("begin_step", self.begin_step, minimum=0)
        check_integer("end_step", self.end_step, minimum=0)
        check_integer("frequency", self.frequency, minimum=1)
        check_number("power", self.power, above=0)
        if self.end_step < self.begin_step:
            expected = f"a step >= begin_step ({self.begin_step})"
            raise invalid_value("end_step", expected=expected, received=self.end_step)

    @property
    def goal(self) -> tuple[int, float]:
        return self.end_step, self.final_sparsity

    def updates_at(self, step: int) -> bool:
        inside = self.begin_step <= step <= self.end_step
        # The last update falls on end_step even where the frequency does not divide the span, or the final sparsity
        # would be missed by up to one period.
        return inside and ((step - self.begin_step) % self.frequency == 0 or step == self.end_step)

    def sparsity_at(self, step: int) -> float:
        if step >= self.end_step:  # also where begin_step == end_step, for which TFMOT computes 0 / 0
            return float(self.final_sparsity)
        return float(_in_tfmot("PolynomialDecay", self)(max(step, self.begin_step))[1])


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class ConstantSparsity(SparsitySchedule):
    """The same sparsity from ``begin_step`` on; the masks are computed anew every ``frequency`` steps.

    Args:
        target_sparsity: Share of zeros, in [0, 1).
        begin_step: Step of the first update, >= 0.
        end_step: Step of the last one, >= ``begin_step``; -1 for no end.
        frequency: Steps between two updates, >= 1.

    Raises:
        ValueError, TypeError: An argument is out of its range or of another type.

    Example:
        >>> ConstantSparsity(0.5, begin_step=10)(10)
        (True, 0.5)
    """

    target_sparsity: float
    begin_step: int
    end_step: int = -1
    frequency: int = 100

    def __post_init__(self) -> None:
        _check_sparsity("target_sparsity", self.target_sparsity)
        check_integer("begin_step", self.begin_step, minimum=0)
        check_integer("end_step", self.end_step, minimum=-1)
        check_integer("frequency", self.frequency, minimum=1)
        if self.end_step != -1 and self.end_step < self.begin_step:
            expected = f"a step >= begin_step ({self.begin_step}), or -1 for no end"
            raise invalid_value("end_step", expected=expected, received=self.end_step)

    @property
    def goal(self) -> tuple[int, float]:
        return self.begin_step, self.target_sparsity

    def updates_at(self, step: int) -> bool:
        inside = self.begin_step <= step and (self.end_step == -1 or step <= self.end_step)
        return inside and (step - self.begin_step) % self.frequency == 0

    def sparsity_at(self, step: int) -> float:
        return float(_in_tfmot("ConstantSparsity", self)(step)[1])


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class CallableSchedule(SparsitySchedule):
    """A schedule made of a function of the step, or of any TFMOT ``PruningSchedule``.

    Called with the step it returns ``(should_prune, sparsity)`` as TFMOT's schedules do, or only the sparsity; then the
    masks are computed anew at each step where it differs from the step before. It is saved with a model if it is
    registered with Keras (``keras.saving.register_keras_serializable``).

    Example:
        >>> ramp = CallableSchedule(lambda step: min(step // 10 * 0.1, 0.5))
        >>> [step for step in range(100) if ramp.updates_at(step)], ramp.sparsity_at(99)
        ([0, 10, 20, 30, 40, 50], 0.5)
    """

    function: Callable[[int], float | tuple[bool, float]]

    def __post_init__(self) -> None:
        if not callable(self.function) or not _takes_a_step(self.function):
            raise invalid_type("schedule", expected="a function of one argument, the step", received=self.function)

    def updates_at(self, step: int) -> bool:
        due, sparsity = self._call(step)
        return due if due is not None else step == 0 or sparsity != self._call(step - 1)[1]

    def sparsity_at(self, step: int) -> float:
        return self._call(step)[1]

    def _call(self, step: int) -> tuple[bool | None, float]:
        value = self.function(step)
        due, sparsity = value if isinstance(value, (tuple, list)) and len(value) == 2 else (None, value)
        try:
            sparsity = float(sparsity)
        except (TypeError, ValueError) as error:
            expected = "(should_prune, sparsity) or a sparsity"
            raise invalid_value("schedule", expected=expected, received=f"{value!r} at step {step}") from error
        _check_sparsity(f"schedule, at step {step}", sparsity)
        return (None if due is None else bool(due)), sparsity

    def get_config(self) -> PlainDict:
        return {"function": keras.saving.serialize_keras_object(self.function)}

    @classmethod
    def from_config(cls, config: PlainDict) -> CallableSchedule:
        return cls(keras.saving.deserialize_keras_object(config["function"]))


# A schedule in any form that verbs take: tfgreen's, or a function of the step, as which TFMOT's can be called too.
ScheduleLike: TypeAlias = "SparsitySchedule | Callable[[int], float | tuple[bool, float]]"


def as_schedule(schedule: ScheduleLike) -> SparsitySchedule:
    """Take a schedule in any of its forms: tfgreen's, TFMOT's, or a function of the step."""
    if isinstance(schedule, SparsitySchedule):
        lacking = [name for name in ("updates_at", "sparsity_at") if name not in _defined(type(schedule))]
        if lacking:
            expected = f"a subclass of SparsitySchedule that defines {' and '.join(lacking)}"
            raise invalid_type("schedule", expected=expected, received=schedule)
        return schedule
    ours = {"PolynomialDecay": PolynomialDecay, "ConstantSparsity": ConstantSparsity}
    theirs = type(schedule).__module__.startswith("tensorflow_model_optimization.")
    if theirs and type(schedule).__name__ in ours:  # TFMOT's get_config wraps its settings in a class name
        return ours[type(schedule).__name__](**getattr(schedule, "get_config")()["config"])
    if callable(schedule) and not isinstance(schedule, type):
        return CallableSchedule(schedule)
    expected = "a schedule such as tg.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000), or a function of the step"
    raise invalid_type("schedule", expected=expected, received=schedule)


@functools.cache  # the masks of all layers share one schedule, so TFMOT's is made once; both are immutable
def _in_tfmot(class_name: str, schedule: SparsitySchedule) -> Callable[[int], tuple[object, float]]:
    return getattr(_tfmot_schedules(), class_name)(**schedule.get_config())


def _takes_a_step(function: Callable) -> bool:
    try:
        inspect.signature(function).bind(0)
    except ValueError:  # a function of C shows no signature
        return True
    except TypeError:
        return False
    return True


def _defined(cls: type) -> set[str]:
    """The methods that a class or those between it and the base define."""
    own = cls.__mro__[: cls.__mro__.index(SparsitySchedule)]
    return {name for one in own for name in vars(one)}


def _check_sparsity(name: str, value: float) -> None:
    check_number(name, value, minimum=0, below=1)
