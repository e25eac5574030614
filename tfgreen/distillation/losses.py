"""The losses of ``tg.Distiller`` as settings: what to compare, and how, in the arguments of keras.distillation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, TypedDict, Union

import keras
from keras import ops

from tfgreen.checks import check_instance, check_number, check_option, is_option
from tfgreen.config import Config
from tfgreen.distillation import divergences
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.capture import SIGMOID, SOFTMAX
from tfgreen.typing import PlainDict, Schedule, Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

AnyLoss: TypeAlias = keras.distillation.DistillationLoss  # Keras's, of which ours are a kind

# A name or an object of a Keras loss, or a list or dict of them over the outputs, in which None leaves an output out.
KerasLoss: TypeAlias = Union[str, keras.losses.Loss, Callable[[Tensor, Tensor], Tensor]]
LossSetting: TypeAlias = Union[KerasLoss, Sequence[Union[KerasLoss, None]], Mapping[str, Union[KerasLoss, None]]]

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

    Example:
        >>> class Distance(DistillationLoss):
        ...     def values(self, teacher, student, **context):
        ...         return ops.norm(teacher - student, axis=-1)
        >>> float(Distance().compute_loss(ops.zeros((2, 4)), ops.ones((2, 4))))
        2.0
    """

    output: str | None = dataclasses.field(default=None, kw_only=True)
    teacher: int | None = dataclasses.field(default=None, kw_only=True)

    needs_labels: ClassVar[bool] = False
    projects: ClassVar[bool] = False

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        """The loss of each position, shape ``(batch, ...)``, from a teacher's tensor and the student's."""
        raise NotImplementedError(f"{type(self).__name__} must implement values(teacher, student, **context).")

    def compute_loss(self, teacher_outputs: Tensor, student_outputs: Tensor, **context: Unpack[LossContext]) -> Tensor:
        """The mean of :meth:`values`, as ``keras.distillation`` calls it."""
        return ops.mean(self.values(teacher_outputs, student_outputs, **context))

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


class LayerLoss(DistillationLoss):
    """Base of the losses that compare layers; each declares the two fields, in the place where Keras has them.

    Attributes:
        teacher_layer_name, student_layer_name: Path (``"encoder/conv"``) or name of a layer; None for the output.
        output: Where the models have several outputs with sample weights of their own: whose weights apply.
    """

    teacher_layer_name: str | None
    student_layer_name: str | None

    def __post_init__(self) -> None:
        for name in ("teacher_layer_name", "student_layer_name"):
            check_instance(name, getattr(self, name), (str, type(None)), "the path or name of a layer, or None")


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class LogitsDistillation(LogitsLoss):
    """Divergence of the student's from the teacher's probabilities, both at a temperature, times its square.

    G. Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.

    Attributes:
        loss: ``"kl_divergence"`` (here a divergence), ``"categorical_crossentropy"``, which
            has the same gradient, or the Keras objects of these names. Any other Keras loss is applied to the logits
            (before a final softmax) over the temperature. A list or dict holds one for each output.
        temperature, activation, from_logits, output, teacher: See :class:`LogitsLoss`. With ``"sigmoid"`` each label is
            a distribution of its own, and the mean over the labels counts.

    Example:
        >>> import numpy as np
        >>> loss = LogitsDistillation(temperature=2.0)
        >>> round(float(loss.values(np.array([[2.0, 0.0]]), np.array([[0.0, 0.0]]))[0]), 4)
        0.4438
    """

    temperature: Schedule = 3.0
    loss: LossSetting = "kl_divergence"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "loss", _checked_loss(self.loss, _DIVERGENCES, _KERAS_NAMES))

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        temperature = self.temperature_at(context)
        divergence = _DIVERGENCES.get(self.loss) if isinstance(self.loss, str) else None
        if divergence is None:
            return _keras_values(self.loss, teacher / temperature, student / temperature)
        if context.get("activation") == SIGMOID:
            return divergences.of_each_label(divergence, teacher, student, temperature)
        return divergence(teacher, student, temperature)


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class DecoupledDistillation(LogitsLoss):
    """Decoupled knowledge distillation (DKD): weighs the target class and the other classes separately.

    B. Zhao et al., "Decoupled Knowledge Distillation", 2022, arXiv:2203.08679. Needs the labels, softmax outputs and
    three classes or more to differ from :class:`LogitsDistillation`.

    Attributes:
        alpha: Weight of the divergence between the target and the rest, >= 0.
        beta: Weight of the divergence among the other classes, >= 0; the paper tunes it per teacher, from 1 to 10.
        temperature, activation, from_logits, output, teacher: See :class:`LogitsLoss`.

    Example:
        >>> import numpy as np
        >>> loss = DecoupledDistillation(temperature=1.0, beta=0.0)  # only whether it is the target
        >>> teacher, student, labels = np.array([[5.0, 1.0, 0.0]]), np.array([[5.0, 0.0, 1.0]]), np.array([0])
        >>> float(loss.values(teacher, student, labels=labels)[0])
        0.0
    """

    alpha: float = 1.0
    beta: float = 8.0

    softmax_only: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("alpha", self.alpha, minimum=0)
        check_number("beta", self.beta, minimum=0)

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        temperature = self.temperature_at(context)
        return divergences.decoupled_kl(teacher, student, context["labels"], temperature, self.alpha, self.beta)


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class RelationalDistillation(LogitsLoss):
    """DIST: keeps how classes relate within a sample, and samples within a class, instead of the exact probabilities.

    T. Huang et al., "Knowledge Distillation from A Stronger Teacher", 2022, arXiv:2205.10536. The second relation is
    over the samples of one batch (of one replica), so small batches weaken it. The paper's temperature is 1.

    Attributes:
        beta: Weight of the relations within a sample, >= 0.
        gamma: Weight of the relations within a class, >= 0.
        temperature, activation, from_logits, output, teacher: See :class:`LogitsLoss`.

    Example:
        >>> import numpy as np
        >>> logits = np.array([[2.0, 0.0, 1.0], [0.0, 1.0, 5.0]])
        >>> RelationalDistillation().values(logits, logits + 3.0).numpy().round(6).tolist()
        [0.0, 0.0]
    """

    temperature: Schedule = 1.0
    beta: float = 1.0
    gamma: float = 1.0

    softmax_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("beta", self.beta, minimum=0)
        check_number("gamma", self.gamma, minimum=0)

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        temperature = self.temperature_at(context)
        return divergences.relational(teacher, student, temperature, self.beta, self.gamma, context.get("weights"))


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class FeatureDistillation(LayerLoss):
    """Makes a layer of the student return what a layer of the teacher does.

    A. Romero et al., "FitNets", 2015, arXiv:1412.6550. Where the channels differ, a trained linear projection of them
    (``keras.layers.Dense``) first maps the student's features; it belongs to the distiller. Where height and width
    differ by a whole factor, the larger map is averaged down.

    Attributes:
        loss: ``"mse"``, ``"cosine"`` (one minus the cosine, exact also where that is near 0), or any other Keras loss
            by name or as an object. A list or dict holds one for each output.
        teacher_layer_name, student_layer_name: See :class:`LayerLoss`. Without both, the models' outputs are compared
            as they are: for regression.
        output, teacher: See :class:`DistillationLoss`.

    Example:
        >>> import numpy as np
        >>> FeatureDistillation().values(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]])).numpy().tolist()
        [2.0]
    """

    loss: LossSetting = "mse"
    teacher_layer_name: str | None = None
    student_layer_name: str | None = None

    projects: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "loss", _checked_loss(self.loss, _DISTANCES))

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        distance = _DISTANCES.get(self.loss) if isinstance(self.loss, str) else None
        return distance(teacher, student) if distance else _keras_values(self.loss, teacher, student)


@keras.saving.register_keras_serializable(package="tfgreen")
@dataclasses.dataclass(frozen=True)
class AttentionTransfer(LayerLoss):
    """Makes a layer of the student attend to the places that a layer of the teacher attends to.

    S. Zagoruyko and N. Komodakis, "Paying More Attention to Attention", 2017, arXiv:1612.03928. Channels may differ.
    The squared distance of the maps is summed over the places; the paper's factor of about 1000 is for its mean.

    Attributes:
        teacher_layer_name, student_layer_name: See :class:`LayerLoss`; features of shape ``(batch, ..., channels)``.
        power: Exponent of the activations in an attention map, > 0.
        output, teacher: See :class:`DistillationLoss`.

    Example:
        >>> import numpy as np
        >>> loss = AttentionTransfer("conv5", "conv2")
        >>> float(loss.values(np.ones((1, 4, 8)), 2 * np.ones((1, 4, 3)))[0])
        0.0
    """

    teacher_layer_name: str | None = None
    student_layer_name: str | None = None
    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("power", self.power, above=0)
        if self.teacher_layer_name is None or self.student_layer_name is None:
            expected = "both teacher_layer_name and student_layer_name"
            received = f"{self.teacher_layer_name!r} and {self.student_layer_name!r}"
            raise invalid_value("AttentionTransfer", expected=expected, received=received)

    def values(self, teacher: Tensor, student: Tensor, **context: Unpack[LossContext]) -> Tensor:
        return divergences.attention_transfer(teacher, student, self.power, context.get("weights"))


_DIVERGENCES = {"kl_divergence": divergences.kl_divergence, "categorical_crossentropy": divergences.soft_cross_entropy}
_KERAS_NAMES = {
    keras.losses.KLDivergence: "kl_divergence",
    keras.losses.CategoricalCrossentropy: "categorical_crossentropy",
}
_DISTANCES = {"mse": divergences.mean_squared_error, "cosine": divergences.cosine_distance}


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


def _checked_loss(loss: LossSetting, own: Collection[str], names: Mapping[type, str] | None = None) -> LossSetting:
    """The setting ``loss``, with tuples for lists, and the name for an object of a loss that has one in ``names``."""
    if isinstance(loss, Mapping):
        return {key: part and _checked_loss(part, own, names) for key, part in loss.items()}
    if isinstance(loss, (list, tuple)) and any(part is not None for part in loss):
        return tuple(part and _checked_loss(part, own, names) for part in loss)
    if names and type(loss) in names and not getattr(loss, "label_smoothing", 0):
        return names[type(loss)]
    if not isinstance(loss, str) and not callable(loss):
        raise invalid_type("loss", expected="the name of a loss or a Keras loss, at least one", received=loss)
    if isinstance(loss, keras.losses.Loss) and loss.reduction == "sum":
        raise invalid_value("loss", expected="one that is averaged, as the distiller does", received="reduction='sum'")
    if isinstance(loss, str) and loss not in own:
        try:
            keras.losses.get(loss)
        except ValueError:
            expected = f"{', '.join(map(repr, own))} or the name of another Keras loss"
            raise invalid_value("loss", expected=expected, received=repr(loss)) from None
    return loss


def by_output(loss: AnyLoss, names: Sequence[str]) -> Sequence[AnyLoss]:
    """A loss for each output, from one whose setting ``loss`` is a list or dict over the outputs."""
    if not isinstance(loss, (LogitsDistillation, FeatureDistillation)) or not isinstance(loss.loss, (tuple, dict)):
        return [loss]
    if isinstance(loss.loss, tuple) and len(loss.loss) != len(names):
        expected = f"one for each of {len(names)} outputs of the student"
        raise invalid_value(f"{type(loss).__name__}, loss", expected=expected, received=f"{len(loss.loss)}")
    parts = loss.loss if isinstance(loss.loss, dict) else dict(zip(names, loss.loss))
    return [dataclasses.replace(loss, loss=part, output=name) for name, part in parts.items() if part is not None]


def _keras_values(loss: LossSetting, teacher: Tensor, student: Tensor) -> Tensor:
    """The values of a Keras loss before it averages them, in float32."""
    function = keras.losses.get(loss)
    function = function.call if isinstance(function, keras.losses.Loss) else function
    return function(ops.cast(teacher, "float32"), ops.cast(student, "float32"))
