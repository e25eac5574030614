"""The losses of ``tg.Distiller`` as settings: what to compare, and how, in the arguments of keras.distillation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, TypedDict, Union

import keras
from keras import ops

from tfgreen.checks import check_instance, check_number, check_option, is_option
from tfgreen.config import Config
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.capture import SIGMOID, SOFTMAX
from tfgreen.typing import PlainDict, Schedule, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

AnyLoss: TypeAlias = keras.distillation.DistillationLoss  # Keras's, of which ours are a kind

# A layer of the teacher -> one of the student, by name or number; kept as pairs.
LayerMap: TypeAlias = Union[Mapping[Union[int, str], Union[int, str]], Sequence[Sequence[Union[int, str]]]]

_CHECKED_STEPS = (0, 1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)  # a schedule is checked here before it is used


class LossContext(TypedDict, total=False):
    """What a loss sees beside the two tensors."""

    activation: str  # what makes probabilities of logits
    labels: Tensor | None  # class numbers
    weights: Tensor | None  # sample weights times the mask, at each position
    step: Tensor | int  # optimizer steps so far


@dataclasses.dataclass(frozen=True)
class DistillationLoss(Config, keras.distillation.DistillationLoss):
    """Base of the losses between a teacher and the student.

    A loss of your own is a frozen dataclass, registered with ``keras.saving.register_keras_serializable``. It overrides
    :meth:`values`, or :meth:`compute_loss`, which as in ``keras.distillation`` sees the models' outputs as they are.
    All losses raise ValueError or TypeError where a setting is out of range or of another type.

    Attributes:
        output: Which output of the models, where they have several: the key of a dict, or the output's name.
        teacher: Index of the only teacher that counts, where there are several; None for all of them, weighted.
        mask: The name of the student's input, ``(batch, length)``, that is 0 where a position of a sequence does not
            count. None: the mask that Keras keeps beside a tensor, and an input called ``padding_mask``, as KerasHub's
            models have, or ``attention_mask``.

    Example:
        >>> class Distance(DistillationLoss):
        ...     def values(self, teacher, student, **context):
        ...         return ops.norm(teacher - student, axis=-1)
        >>> float(Distance().compute_loss(ops.zeros((2, 4)), ops.ones((2, 4))))
        2.0
    """

    output: str | None = dataclasses.field(default=None, kw_only=True)
    teacher: int | None = dataclasses.field(default=None, kw_only=True)
    mask: str | None = dataclasses.field(default=None, kw_only=True)

    needs_labels: ClassVar[bool] = False
    projects: ClassVar[bool] = False

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        """The loss of each position, shape ``(batch, ...)``, from a teacher's tensor and the student's."""
        raise NotImplementedError(f"{type(self).__name__} must implement values(teacher, student, **context).")

    def compute_loss(self, teacher_outputs: Tensor, student_outputs: Tensor, **context: Unpack[LossContext]) -> Tensor:
        """The mean of :meth:`values`, as ``keras.distillation`` calls it."""
        return ops.mean(self.values(teacher_outputs, student_outputs, **context))

    def positions(self, student: Tensor) -> Tensor:
        """Ones of the shape that :meth:`values` has of the student's tensor, or has but for its last axes."""
        return ops.ones_like(ops.take(student, 0, axis=-1), dtype="float32")

    def get_config(self) -> PlainDict:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: keras.saving.serialize_keras_object(value) for name, value in fields.items()}

    @classmethod
    def from_config(cls, config: PlainDict) -> DistillationLoss:
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})


@dataclasses.dataclass(frozen=True)
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

    temperature: Schedule = 4.0
    activation: Literal["softmax", "sigmoid"] | None = dataclasses.field(default=None, kw_only=True)
    from_logits: bool | tuple[bool | None, bool | None] | None = dataclasses.field(default=None, kw_only=True)

    softmax_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_schedule("temperature", self.temperature, above=0)
        check_option("activation", self.activation, (SOFTMAX, SIGMOID, None))
        if isinstance(self.from_logits, list):  # from a saved file
            object.__setattr__(self, "from_logits", tuple(self.from_logits))
        if len(self.stated) != 2 or not all(is_option(value, (None, True, False)) for value in self.stated):
            expected = "True, False, None, or a pair of these for (teacher, student)"
            raise invalid_value("from_logits", expected=expected, received=self.from_logits)

    @property
    def stated(self) -> Sequence[bool | None]:
        """What ``from_logits`` states of the teacher and of the student."""
        return self.from_logits if isinstance(self.from_logits, tuple) else (self.from_logits,) * 2

    def temperature_at(self, context: LossContext) -> Tensor:
        return value_at(self.temperature, context.get("step", 0))


@dataclasses.dataclass(frozen=True)
class _MappedLoss(DistillationLoss):
    """What :class:`LayerLoss` has of its own, which is no dataclass, as its subclasses say where the names stand."""

    layer_map: LayerMap | None = dataclasses.field(default=None, kw_only=True)


class LayerLoss(_MappedLoss):
    """Base of the losses that compare layers; each declares the two names, in the place where Keras has them.

    Attributes:
        teacher_layer_name, student_layer_name: Path (``"encoder/conv"``) or name of a layer; None for the output.
            ``"name@1"`` means the second call of a layer that the model calls several times.
        layer_map: Instead of the two: pairs of a layer of the teacher and one of the student, as a dict. A number is
            that of a layer which the model repeats, as ``tg.shallow_copy`` counts them: ``{0: 0, 3: 1, 6: 2}``. The
            mean over the pairs counts.
        output: Where the models have several outputs with sample weights of their own: whose weights apply.
    """

    teacher_layer_name: str | None
    student_layer_name: str | None

    needs_layers: ClassVar[bool] = False

    def __post_init__(self) -> None:
        names = self.teacher_layer_name, self.student_layer_name
        for argument, name in zip(("teacher_layer_name", "student_layer_name"), names):
            check_instance(argument, name, (str, type(None)), "the path or name of a layer, or None")
        if self.layer_map is not None:
            pairs = list(self.layer_map.items() if isinstance(self.layer_map, Mapping) else self.layer_map)
            expected = "a dict of layers of the teacher and of the student, numbers or names"
            if not pairs or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
                raise invalid_value("layer_map", expected=expected, received=self.layer_map)
            for part in (part for pair in pairs for part in pair):
                check_instance("layer_map", part, (int, str), expected)
            object.__setattr__(self, "layer_map", tuple(map(tuple, pairs)))
            if names != (None, None):
                expected = "layer_map alone, or teacher_layer_name and student_layer_name"
                raise invalid_value(type(self).__name__, expected=expected, received="both")
        elif self.needs_layers and None in names:
            expected = "both teacher_layer_name and student_layer_name, or layer_map"
            raise invalid_value(type(self).__name__, expected=expected, received=f"{names[0]!r} and {names[1]!r}")


def value_at(schedule: Schedule, step: Tensor | int) -> Tensor | float:
    """A number or a schedule of one, at a step."""
    return ops.cast(schedule(step), "float32") if callable(schedule) else float(schedule)


def check_schedule(
    name: str, value: Schedule, minimum: float | None = None, maximum: float | None = None, above: float | None = None
) -> None:
    """Raise unless a number, or a schedule at a sample of steps, is within the bounds (see ``check_number``)."""
    found: dict[str, object] = {name: value}
    if callable(value):
        try:
            tensors = {step: value_at(value, ops.convert_to_tensor(step, "int64")) for step in _CHECKED_STEPS}
            found = {f"{name}, at step {step}": float(ops.convert_to_numpy(t)) for step, t in tensors.items()}
        except Exception as error:  # noqa: B902 - whatever a function of the user's raises, or its result makes raise
            expected = "a number, or a function of the step that returns one"
            raise invalid_type(name, expected=expected, received=value) from error
    for subject, number in found.items():
        check_number(subject, number, minimum=minimum, maximum=maximum, above=above)
