"""Pair: one tensor of a teacher beside one of the student, made comparable, weighted and reduced to a loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfgreen.distillation.adapters import Compared, ComparedModel
from tfgreen.distillation.base import DistillationLoss, LayerLoss, LogitsLoss, check_number
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.capture import SIGMOID, SOFTMAX
from tfgreen.typing import Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """What one loss compares for one teacher.

    Attributes:
        loss: The loss.
        teacher: Index of the teacher.
        output: Name of the output whose labels and sample weights apply.
        teacher_key: Key of the teacher's tensor.
        student_key: Key of the student's.
        activation: What turns logits into probabilities; ``""`` for features.
        teacher_pool: What the teacher's map is averaged by, along each of its axes between batch and channels.
        student_pool: The same for the student's.
        projection: Maps the student's channels to the teacher's, where they differ.
    """

    loss: DistillationLoss
    teacher: int
    output: str
    teacher_key: str
    student_key: str
    activation: str = ""
    teacher_pool: tuple[int, ...] = ()
    student_pool: tuple[int, ...] = ()
    projection: keras.layers.Layer | None = None

    def value(self, teacher: Any, student: Any, masked: Any, weight: Any, labels: Any, step: Any) -> Any:
        """The loss of one batch, a scalar normalized as Keras does.

        Args:
            teacher: The teacher's tensor.
            student: The student's.
            masked: The tensor of the student that bears a mask, if there is one.
            weight: Sample weights of shape ``(batch, ...)``, or None.
            labels: Class numbers or one-hot rows, or None.
            step: Training step.
        """
        masked = student if masked is None else masked
        teacher, student = _pooled(teacher, self.teacher_pool), _pooled(student, self.student_pool)
        if self.projection is not None:
            student = self.projection(student)
        positions = ops.zeros_like(student[..., 0], dtype="float32")
        if any(factor > 1 for factor in self.student_pool) or len(masked.shape) != len(student.shape):
            masked = positions
        weights = _Reduction("none")(positions + 1.0, masked, self._at(weight, positions))
        values = self.loss.values(
            teacher,
            student,
            activation=self.activation,
            labels=None if labels is None else _class_numbers(labels, student),
            weights=weights,
            step=step,
        )
        if len(values.shape) < len(positions.shape):  # one value for all positions of a sample
            masked = values
        return _Reduction("sum_over_batch_size")(values, masked, self._at(weight, values))

    def _at(self, weight: Any, values: Any) -> Any:
        """Sample weights with as many axes as there are in the values."""
        if weight is None:
            return None
        weight = ops.convert_to_tensor(weight)
        rank = len(values.shape)
        while len(weight.shape) > rank and weight.shape[-1] == 1:
            weight = ops.squeeze(weight, axis=-1)
        if len(weight.shape) > rank:
            raise invalid_value(
                f"sample_weight, for {type(self.loss).__name__}",
                expected=f"at most {rank} axes, as the loss has a value for each of {rank}",
                received=f"shape {tuple(weight.shape)}",
            )
        return ops.reshape(weight, (*ops.shape(weight), *(1,) * (rank - len(weight.shape))))


def make_pair(loss: DistillationLoss, index: int, teacher: Compared, student: ComparedModel) -> Pair:
    """Find out what a loss compares, and ask both models for it.

    Raises:
        ValueError: The outputs or features cannot be compared, a layer does not exist, or it cannot be told whether an
            output is logits.
    """
    if isinstance(loss, LayerLoss) and loss.teacher_layer is not None and loss.student_layer is not None:
        output = loss.output or ""
        keys = teacher.want_layer(loss.teacher_layer), student.want_layer(loss.student_layer)
        return _layer_pair(Pair(loss, index, output, *keys), teacher.shapes[keys[0]], student.shapes[keys[1]])
    ours = student.output_named(loss.output)
    theirs = teacher.output_named(loss.output if len(teacher.heads) > 1 else None)
    shapes = teacher.heads[theirs].shape, student.heads[ours].shape
    if shapes[0] != shapes[1]:
        raise invalid_value(
            f"{type(loss).__name__}, outputs of {teacher.subject} and {student.subject}",
            expected="equal shapes (the same classes)",
            received=f"{shapes[0][1:]} and {shapes[1][1:]} for each sample",
        )
    if not isinstance(loss, LogitsLoss):
        return Pair(loss, index, ours, teacher.want_output(theirs), student.want_output(ours))
    activation = _activation(loss, teacher, theirs, student, ours)
    teacher_key = teacher.want_logits(theirs, activation, loss.from_logits[0])
    return Pair(loss, index, ours, teacher_key, student.want_logits(ours, activation, loss.from_logits[1]), activation)


def pick(structure: Any, name: str, names: list[str], argument: str) -> Any:
    """The part of labels or sample weights that belongs to an output.

    Args:
        structure: One for all outputs, a dict by output name, or a list in their order.
        name: Name of the output; ``""`` for the only one.
        names: Names of all outputs.
        argument: How to call the structure in errors.

    Raises:
        ValueError: There is none, or it cannot be told which.

    Example:
        >>> pick({"label": 1, "size": 2}, "size", ["label", "size"], "y")
        2
    """
    if isinstance(structure, dict) and name in structure:
        return structure[name]
    if isinstance(structure, (list, tuple)) and name in names and len(structure) == len(names):
        return structure[names.index(name)]
    flat = keras.tree.flatten(structure)
    if len(flat) == 1:
        return flat[0]
    raise invalid_value(
        argument,
        expected=f"one for output '{name}' of {names}" if name else f"output= of the loss as one of {names}",
        received=list(structure) if isinstance(structure, dict) else f"{len(flat)} arrays",
    )


def checked_losses(losses: Any) -> tuple[DistillationLoss, ...]:
    """One loss or several as a tuple.

    Raises:
        TypeError: One is no distillation loss of tfgreen.
        ValueError: There is none.
    """
    listed = tuple(losses) if isinstance(losses, (list, tuple)) else (losses,)
    if not listed:
        raise invalid_value("losses", expected="one distillation loss or more", received="none")
    for loss in listed:
        if not isinstance(loss, DistillationLoss):
            expected = "distillation losses of tfgreen, such as tg.LogitsDistillation(temperature=4.0)"
            raise invalid_type("losses", expected=expected, received=loss)
    return listed


def checked_weights(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """What each teacher counts, divided by the sum; equally for None.

    Raises:
        TypeError, ValueError: There is no teacher, or not one number >= 0 for each, or all are 0.
    """
    if count == 0:
        raise invalid_value("teacher", expected="a model, or a list of them", received="an empty list")
    if weights is None:
        return (1.0 / count,) * count
    for weight in weights:
        check_number("teacher_weights", weight)
    if len(weights) != count or min(weights) < 0 or not sum(weights) > 0:
        expected = f"{count} numbers >= 0, one for each teacher, not all of them 0"
        raise invalid_value("teacher_weights", expected=expected, received=list(weights))
    return tuple(float(weight) / sum(weights) for weight in weights)


def teachers_of(loss: DistillationLoss, count: int) -> Sequence[int]:
    """The indices of the teachers that a loss is about, of ``count``.

    Raises:
        ValueError: There is no teacher of the loss's index.
    """
    if loss.teacher is None:
        return range(count)
    if not isinstance(loss.teacher, int) or not 0 <= loss.teacher < count:
        expected = f"the index of one of {count} teachers, or None"
        raise invalid_value(f"{type(loss).__name__}, teacher", expected=expected, received=loss.teacher)
    return [loss.teacher]


class _Reduction(keras.losses.Loss):
    """Applies the mask on ``y_pred`` and sample weights to values, and normalizes them, as every Keras loss does."""

    def __init__(self, reduction: str) -> None:
        super().__init__(name="reduction", reduction=reduction, dtype="float32")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return y_true


def _activation(loss: LogitsLoss, teacher: Compared, theirs: str, student: Compared, ours: str) -> str:
    """Softmax or sigmoid: as stated, as either model shows, or the softmax that logits of several classes are for."""
    shown = [head.activation for head in (teacher.heads[theirs], student.heads[ours])]
    shown = list(dict.fromkeys(activation for activation in shown if activation in (SOFTMAX, SIGMOID)))
    subject = f"{type(loss).__name__}, outputs of {teacher.subject} and {student.subject}"
    if len(shown) > 1:
        raise invalid_value(subject, expected="one activation", received=f"{shown[0]} and {shown[1]}")
    activation = loss.activation or (shown[0] if shown else None)
    if activation is None and student.heads[ours].shape[-1] == 1:
        raise invalid_value(
            subject,
            expected="a sigmoid at the end, which makes a single number the logit of a label",
            received="none",
            fix="State activation='sigmoid' in the loss; for regression use tg.FeatureDistillation() without layers.",
        )
    if activation == SIGMOID and loss.softmax_only:
        expected = "softmax outputs, as the loss relates classes"
        raise invalid_value(subject, expected=expected, received="sigmoid outputs")
    return activation or SOFTMAX


def _layer_pair(pair: Pair, theirs: Shape, ours: Shape) -> Pair:
    """The pair with the pooling and the projection that make the student's features fit the teacher's."""
    teacher_pool, student_pool = [], []
    for a, b in zip(theirs[1:-1], ours[1:-1]):
        larger, smaller = max(a or 1, b or 1), min(a or 1, b or 1)
        if len(theirs) != len(ours) or (a is None) != (b is None) or larger % smaller:
            break
        teacher_pool.append(larger // smaller if (a or 1) > (b or 1) else 1)
        student_pool.append(larger // smaller if (b or 1) > (a or 1) else 1)
    if len(theirs) != len(ours) or len(teacher_pool) != len(theirs) - 2 or theirs[-1] is None or ours[-1] is None:
        raise invalid_value(
            f"{type(pair.loss).__name__}, layers '{pair.teacher_key[6:]}' and '{pair.student_key[6:]}'",
            expected="features of as many axes, their sizes equal or a whole factor apart (the channels may differ)",
            received=f"{theirs[1:]} and {ours[1:]} for each sample",
        )
    projection = None
    if getattr(pair.loss, "projects", False) and theirs[-1] != ours[-1]:
        projection = keras.layers.Dense(theirs[-1], use_bias=False, dtype="float32", name="projection")
        projection.build((None, *ours[1:]))
    return dataclasses.replace(
        pair, teacher_pool=tuple(teacher_pool), student_pool=tuple(student_pool), projection=projection
    )


def _pooled(x: Any, factors: tuple[int, ...]) -> Any:
    """Average over blocks of these sizes along the axes between batch and channels."""
    if all(factor == 1 for factor in factors):
        return x
    shape = ops.shape(x)
    blocks = [size for axis, factor in enumerate(factors, 1) for size in (shape[axis] // factor, factor)]
    x = ops.reshape(ops.cast(x, "float32"), (shape[0], *blocks, shape[-1]))
    return ops.mean(x, axis=tuple(range(2, 2 + 2 * len(factors), 2)))


def _class_numbers(labels: Any, logits: Any) -> Any:
    """Class numbers of shape ``(batch, ...)`` from those, from ``(batch, ..., 1)``, or from one-hot rows."""
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) < len(logits.shape):
        return labels
    return ops.argmax(labels, axis=-1) if labels.shape[-1] != 1 else ops.squeeze(labels, axis=-1)
