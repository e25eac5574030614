"""Match: a tensor of a teacher beside one of the student, made comparable and reduced to a loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import keras
from keras import ops

from tfgreen.checks import check_integer
from tfgreen.distillation.adapters import Adapter, KerasAdapter, Keyed
from tfgreen.distillation.attention_losses import AttentionLoss, AttentionRelationDistillation
from tfgreen.distillation.expand import by_layer, by_output
from tfgreen.distillation.losses import AnyLoss, DistillationLoss, LayerLoss, LogitsLoss
from tfgreen.distillation.padding import input_named, masked_positions, padding_input
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.capture import SIGMOID, SOFTMAX, Head
from tfgreen.structure import CallSpec
from tfgreen.typing import Schedule, Shape, Tensor, Tensors


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """What the loss of the labels sees of a batch; ``outputs`` are the student's by name."""

    x: Tensors
    y: Tensors | None
    y_pred: Tensors
    outputs: Mapping[str, Tensor]
    sample_weight: Tensors | None
    step: Tensor | int


@dataclasses.dataclass(frozen=True, eq=False)
class Match:
    """What one loss compares for one teacher."""

    loss: AnyLoss
    teacher: int  # its index
    teacher_key: str  # of the tensor that was requested
    student_key: str
    output: str  # the name of the output whose labels and sample weights apply
    activation: str = ""  # what turns logits into probabilities; "" for features
    teacher_pool: tuple[int, ...] = ()  # what a map is averaged by, along each axis between batch and channels
    student_pool: tuple[int, ...] = ()
    mask_key: str = ""  # of what bears the student's mask, where that is another tensor
    padding: str = ""  # the input of the student that is 0 where a position does not count
    spec: CallSpec | None = None  # of the student, for that
    projection: keras.layers.Layer | None = None  # from the student's channels to the teacher's, where they differ
    weight: Schedule = 1.0  # what the loss counts
    share: float = 1.0  # what the teacher counts

    def matched(self, teacher: Keyed, student: Keyed, batch: Batch) -> tuple[Tensors, Tensors, Tensors]:
        """The teacher's tensor and the student's, of one shape, and the tensor that bears the student's mask."""
        theirs, ours = teacher[self.teacher_key], student[self.student_key]
        # Keras keeps the mask on the output itself, not on the logits that it is the activation of.
        masked = ours if isinstance(self.loss, LayerLoss) else batch.outputs[self.output]
        masked = student[self.mask_key] if self.mask_key else masked
        theirs, ours = _pooled(theirs, self.teacher_pool), _pooled(ours, self.student_pool)
        if self.projection is not None:
            ours = self.projection(ours)
        pooled = any(factor > 1 for factor in self.student_pool)
        if not self.mask_key and (pooled or len(masked.shape) != len(ours.shape)):
            masked = ours[..., 0]  # bears none
        return theirs, ours, masked

    def reduced(self, teacher: Tensors, student: Tensors, masked: Tensors, batch: Batch) -> Tensor:
        """The loss of one batch, a scalar normalized as Keras does."""
        names, labels = list(batch.outputs), None
        weight = pick(batch.sample_weight, self.output, names, "sample_weight")
        if self.loss.needs_labels:
            if batch.y is None:
                raise invalid_value(type(self.loss).__name__, expected="labels", received="no labels")
            labels = _class_numbers(pick(batch.y, self.output, names, "y"), student)
        positions = self.loss.positions(student)
        padding = input_named(batch.x, self.padding, self.spec) if self.padding and self.spec else None
        masked = masked_positions(positions, masked, padding)
        weights = _each(positions, masked, self._at(weight, positions))
        context = {"activation": self.activation, "labels": labels, "weights": weights, "step": batch.step}
        values = self.loss.values(teacher, student, **context)
        if len(values.shape) < len(positions.shape):  # one value for all positions of a sample
            masked = values
        return _mean(values, masked, self._at(weight, values))

    def _at(self, weight: Tensor | None, values: Tensor) -> Tensor | None:
        """Sample weights with as many axes as there are in the values."""
        if weight is None:
            return None
        weight = ops.convert_to_tensor(weight)
        rank = len(values.shape)
        while len(weight.shape) > rank and weight.shape[-1] == 1:
            weight = ops.squeeze(weight, axis=-1)
        if len(weight.shape) > rank:
            expected = f"at most {rank} axes, as the loss has a value for each of {rank}"
            subject, received = f"sample_weight, for {type(self.loss).__name__}", f"shape {tuple(weight.shape)}"
            raise invalid_value(subject, expected=expected, received=received)
        return ops.reshape(weight, (*ops.shape(weight), *(1,) * (rank - len(weight.shape))))


@dataclasses.dataclass(frozen=True, eq=False)
class KerasMatch(Match):
    """What a loss of ``keras.distillation`` compares: a layer of each, or all outputs in the student's structure."""

    outputs: Mapping[str, str] = dataclasses.field(default_factory=dict)  # the student's -> key of the teacher's

    def matched(self, teacher: Keyed, student: Keyed, batch: Batch) -> tuple[Tensors, Tensors, Tensors]:
        if not self.outputs:
            return teacher[self.teacher_key], student[self.student_key], None
        keys = {id(tensor): self.outputs[name] for name, tensor in batch.outputs.items()}
        return keras.tree.map_structure(lambda tensor: teacher[keys[id(tensor)]], batch.y_pred), batch.y_pred, None

    def reduced(self, teacher: Tensors, student: Tensors, masked: Tensors, batch: Batch) -> Tensor:
        self.loss.validate_outputs(teacher, student)
        loss = ops.cast(self.loss.compute_loss(teacher, student), "float32")
        if len(loss.shape):
            subject = f"{type(self.loss).__name__}.compute_loss"
            raise invalid_value(subject, expected="a scalar", received=f"shape {tuple(loss.shape)}")
        return loss


def request_all(
    losses: Iterable[tuple[AnyLoss, Schedule]], teachers: Sequence[tuple[Adapter, float]], student: KerasAdapter
) -> tuple[Match, ...]:
    """Request what each loss compares, of each teacher that it is about; losses and teachers bear their weights."""
    found: list[Match] = []
    for whole, weight in losses:
        for loss in by_output(whole, list(student.heads)):
            only = getattr(loss, "teacher", None)
            check_integer(f"{type(loss).__name__}, teacher", only, minimum=0, maximum=len(teachers) - 1, optional=True)
            for index in range(len(teachers)) if only is None else [only]:
                teacher, share = teachers[index]
                parts = by_layer(loss, teacher.model, student.model)
                share = (share if only is None else 1.0) / len(parts)
                matches = [request(part, index, teacher, student) for part in parts]
                found += [dataclasses.replace(match, weight=weight, share=share) for match in matches]
    return tuple(_padded(match, student) for match in found)


def _padded(match: Match, student: KerasAdapter) -> Match:
    """The match with the input that says what of the student's tensor is padding."""
    if isinstance(match, KerasMatch) or len(student.requests[match.student_key].shape) < 3:
        return match
    spec = read_call_spec(student.model)
    return dataclasses.replace(match, spec=spec, padding=padding_input(match.loss, spec, match.student_key))


def request(loss: AnyLoss, index: int, teacher: Adapter, student: KerasAdapter) -> Match:
    """Request what one loss compares of the teacher of this index and of the student, or say why they do not fit."""
    layers = getattr(loss, "teacher_layer_name", None), getattr(loss, "student_layer_name", None)
    if not isinstance(loss, DistillationLoss) or type(loss).compute_loss is not DistillationLoss.compute_loss:
        loss.validate_model_compatibility(teacher.model, student.model)
        if layers[0] is not None and layers[1] is not None:
            return KerasMatch(loss, index, teacher.request_layer(layers[0]), student.request_layer(layers[1]), "")
        outputs = {name: teacher.request_output(_same_output(teacher, name, student)) for name in student.heads}
        return KerasMatch(loss, index, "", "", "", outputs=outputs)
    if isinstance(loss, AttentionLoss):
        return _attention(loss, index, teacher, student)
    if layers != (None, None):
        theirs, ours = (
            model.request_output(model.output_named(loss.output)) if name is None else model.request_layer(name)
            for model, name in zip((teacher, student), layers)
        )
        match = Match(loss, index, theirs, ours, loss.output or "")
        return _fitted(match, teacher.requests[theirs].shape, student.requests[ours].shape)
    ours = student.output_named(loss.output)
    theirs = _same_output(teacher, ours, student)
    heads = teacher.heads[theirs], student.heads[ours]
    subject = f"{type(loss).__name__}, outputs of {teacher.subject} and {student.subject}"
    if heads[0].shape != heads[1].shape:
        received = f"{heads[0].shape[1:]} and {heads[1].shape[1:]} for each sample"
        raise invalid_value(subject, expected="equal shapes (the same classes)", received=received)
    if not isinstance(loss, LogitsLoss):
        return Match(loss, index, teacher.request_output(theirs), student.request_output(ours), ours)
    activation = _activation(loss, heads, subject)
    teacher_key = teacher.request_logits(theirs, activation, loss.stated[0])
    return Match(loss, index, teacher_key, student.request_logits(ours, activation, loss.stated[1]), ours, activation)


def _attention(loss: AttentionLoss, index: int, teacher: Adapter, student: KerasAdapter) -> Match:
    """Request what a loss between attention layers compares."""
    names = loss.teacher_layer_name or "", loss.student_layer_name or ""
    part = loss.relations[0] if isinstance(loss, AttentionRelationDistillation) else "probabilities"
    keys = [model.request_attention(name, part) for model, name in zip((teacher, student), names)]
    mask_key = student.request_attention(names[1], "output")  # Keras keeps no mask inside of the layer
    theirs, ours = (model.requests[key].shape for model, key in zip((teacher, student), keys))
    subject = f"{type(loss).__name__}, layers '{names[0]}' and '{names[1]}'"
    lengths = [shape[2 if part == "probabilities" else 1] for shape in (theirs, ours)]
    if None not in lengths and lengths[0] != lengths[1]:
        raise invalid_value(subject, expected="sequences of one length", received=f"{lengths[0]} and {lengths[1]}")
    if isinstance(loss, AttentionRelationDistillation):
        widths = [math.prod(size or 1 for size in shape[2:]) for shape in (theirs, ours)]
        heads = loss.relation_heads or math.gcd(teacher.heads_of(names[0]) or widths[0], *widths)
        if any(width % heads for width in widths):
            expected = f"relation_heads that divide both widths, {widths[0]} and {widths[1]}"
            raise invalid_value(subject, expected=expected, received=heads)
        loss = dataclasses.replace(loss, relation_heads=heads)
    return Match(loss, index, keys[0], keys[1], loss.output or "", mask_key=mask_key)


def pick(structure: Tensors | None, name: str, names: list[str], argument: str) -> Tensor:
    """The part of labels or sample weights that belongs to the output ``name`` of ``names`` (``""`` for the only one).

    The structure is one for all outputs (or None), a dict by output name, or a list in their order; ``argument`` is
    its name.
    """
    if isinstance(structure, dict) and name in structure:
        return structure[name]
    if isinstance(structure, (list, tuple)) and name in names and len(structure) == len(names):
        return structure[names.index(name)]
    flat = keras.tree.flatten(structure)
    if len(flat) == 1:
        return flat[0]
    expected = f"one for output '{name}' of {names}" if name else f"output= of the loss as one of {names}"
    received = list(structure) if isinstance(structure, dict) else f"{len(flat)} arrays"
    raise invalid_value(argument, expected=expected, received=received)


class _Values(keras.losses.Loss):
    """Applies the mask on ``y_pred`` and sample weights to values, and normalizes them, as every Keras loss does."""

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_true


_each, _mean = _Values("each", "none", "float32"), _Values("mean", "sum_over_batch_size", "float32")


def _same_output(teacher: Adapter, name: str, student: Adapter) -> str:
    """The teacher's output of this name, or at the same place where its outputs have other names."""
    if name not in teacher.heads and len(teacher.heads) == len(student.heads):
        return list(teacher.heads)[list(student.heads).index(name)]
    return teacher.output_named(name or None)


def _activation(loss: LogitsLoss, heads: Sequence[Head], subject: str) -> str:
    """Softmax or sigmoid: as stated, as either model shows, or the softmax that logits of several classes are for."""
    shown = list(dict.fromkeys(head.activation for head in heads if head.activation in (SOFTMAX, SIGMOID)))
    if len(shown) > 1:
        raise invalid_value(subject, expected="one activation", received=f"{shown[0]} and {shown[1]}")
    activation = loss.activation or (shown[0] if shown else None)
    if activation is None and heads[0].shape[-1] == 1:
        raise invalid_state(
            f"{subject}: a single number is the logit of a label only where a sigmoid follows it, and none does.",
            "State activation='sigmoid' in the loss; for regression use tg.FeatureDistillation() without layers.",
        )
    if activation == SIGMOID and loss.softmax_only:
        expected = "softmax outputs, as the loss relates classes"
        raise invalid_value(subject, expected=expected, received="sigmoid outputs")
    return activation or SOFTMAX


def _fitted(match: Match, theirs: Shape, ours: Shape) -> Match:
    """The match with the pooling and the projection that make the student's features fit the teacher's."""
    factors = [_factors(a, b) for a, b in zip(theirs[1:-1], ours[1:-1])]
    if len(theirs) != len(ours) or None in factors or theirs[-1] is None or ours[-1] is None:
        names = [key.partition("/")[2] for key in (match.teacher_key, match.student_key)]
        subject = f"{type(match.loss).__name__}, layers '{names[0]}' and '{names[1]}'"
        expected = "features of as many axes, their sizes equal or a whole factor apart (the channels may differ)"
        raise invalid_value(subject, expected=expected, received=f"{theirs[1:]} and {ours[1:]} for each sample")
    projection = None
    if match.loss.projects and theirs[-1] != ours[-1]:
        projection = keras.layers.Dense(theirs[-1], use_bias=False, dtype="float32", name="projection")
        projection.build((None, *ours[1:]))
    pools = [tuple(pair[side] for pair in factors if pair) for side in (0, 1)]
    return dataclasses.replace(match, teacher_pool=pools[0], student_pool=pools[1], projection=projection)


def _factors(theirs: int | None, ours: int | None) -> tuple[int, int] | None:
    """What the teacher's and the student's axis are averaged by to be of one size, if that can be."""
    if theirs == ours:
        return 1, 1
    if theirs is None or ours is None or max(theirs, ours) % min(theirs, ours):
        return None
    return theirs // min(theirs, ours), ours // min(theirs, ours)


def _pooled(x: Tensor, factors: Sequence[int]) -> Tensor:
    """Average over blocks of these sizes along the axes between batch and channels."""
    if all(factor == 1 for factor in factors):
        return x
    shape = ops.shape(x)
    blocks = [size for axis, factor in enumerate(factors, 1) for size in (shape[axis] // factor, factor)]
    x = ops.reshape(ops.cast(x, "float32"), (shape[0], *blocks, shape[-1]))
    return ops.mean(x, axis=tuple(range(2, 2 + 2 * len(factors), 2)))


def _class_numbers(labels: Tensor, logits: Tensor) -> Tensor:
    """Class numbers of shape ``(batch, ...)`` from those, from ``(batch, ..., 1)``, or from one-hot rows."""
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) < len(logits.shape):
        return labels
    return ops.argmax(labels, axis=-1) if labels.shape[-1] != 1 else ops.squeeze(labels, axis=-1)
