"""Distillation losses as plain functions of teacher and student tensors: numbers in, one value per position out.

Logits have shape ``(batch, ..., classes)``, features ``(batch, ..., channels)``; what comes out has the leading axes,
so that sample weights and masks apply to it as they do to a Keras loss. A temperature is a number > 0 or a scalar
tensor. Everything is computed in float32, and written so that nothing cancels or overflows: logits of +-100 at
temperatures of 0.5 to 20 keep float32's precision, and the loss between nearly equal models is not lost in rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias, Union

from keras import ops

from tfgreen.typing import Tensor

Scalar: TypeAlias = Union[Tensor, float]

_NEVER = -1e9  # the logit of a class that is left out


def kl_divergence(teacher: Tensor, student: Tensor, temperature: Scalar = 1.0) -> Tensor:
    """``T^2 * KL(softmax(teacher / T) || softmax(student / T))`` over the last axis, >= 0.

    The factor keeps gradients of one size over temperatures (Hinton et al.).
    """
    # The divergence does not change with a shift; without one, the difference of large logits loses digits.
    z_teacher, z_student = (_from_largest(_scaled(logits, temperature)) for logits in (teacher, student))
    log_p = _log_softmax(z_teacher)
    p = ops.exp(log_p)
    # KL = log sum(p * e^c) for the difference c of the logits, less its mean under p. As sum(p * c) = 0 that is
    # log(1 + sum(p * (e^c - 1 - c))): a sum of terms >= 0, in which nothing cancels.
    mean = ops.sum(p * (z_student - z_teacher), axis=-1, keepdims=True)
    c = z_student - z_teacher - mean
    exponent = z_student - ops.logsumexp(z_teacher, axis=-1, keepdims=True) - mean  # log_p + c
    near = ops.abs(c) < 0.5
    far_terms = ops.exp(ops.minimum(exponent, 60.0)) - p - p * c
    terms = ops.where(near, p * _exp_less_line(ops.where(near, c, 0.0)), far_terms)
    fits = ops.max(exponent, axis=-1) < 60.0  # beyond, e^c overflows and the logarithm alone is exact enough
    kl = ops.where(fits, ops.log1p(ops.sum(terms, axis=-1)), ops.logsumexp(exponent, axis=-1))
    return kl * ops.square(_float32(temperature))


def _from_largest(logits: Tensor) -> Tensor:
    return logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))


def soft_cross_entropy(teacher: Tensor, student: Tensor, temperature: Scalar = 1.0) -> Tensor:
    """``-T^2 * sum(softmax(teacher / T) * log softmax(student / T))`` over the last axis.

    Its gradient is that of the divergence, its value larger by the teacher's entropy.
    """
    p = ops.exp(_log_softmax(_scaled(teacher, temperature)))
    return -ops.sum(p * _log_softmax(_scaled(student, temperature)), axis=-1) * ops.square(_float32(temperature))


def of_each_label(
    divergence: Callable[[Tensor, Tensor, Scalar], Tensor], teacher: Tensor, student: Tensor, temperature: Scalar = 1.0
) -> Tensor:
    """A divergence of each label on its own (sigmoid), averaged over the labels in the last axis."""
    teacher, student = (ops.stack([_float32(z), ops.zeros_like(z, "float32")], axis=-1) for z in (teacher, student))
    return ops.mean(divergence(teacher, student, temperature), axis=-1)


def decoupled_kl(
    teacher: Tensor, student: Tensor, labels: Tensor, temperature: Scalar = 1.0, alpha: float = 1.0, beta: float = 8.0
) -> Tensor:
    """Decoupled knowledge distillation, ``T^2 * (alpha * TCKD + beta * NCKD)``; labels are class numbers, ``(...)``.

    TCKD is the divergence between target and rest, NCKD that among the classes that are not the target.
    """
    is_target = ops.one_hot(ops.cast(labels, "int32"), teacher.shape[-1], dtype="bool")

    def parts(logits: Tensor) -> tuple[Tensor, Tensor]:
        scaled = _scaled(logits, temperature)
        others = ops.where(is_target, _NEVER, scaled)
        target = ops.sum(ops.where(is_target, scaled, 0.0), axis=-1)
        return ops.stack([target, ops.logsumexp(others, axis=-1)], axis=-1), others

    (teacher_pair, teacher_others), (student_pair, student_others) = parts(teacher), parts(student)
    tckd, nckd = kl_divergence(teacher_pair, student_pair), kl_divergence(teacher_others, student_others)
    return (alpha * tckd + beta * nckd) * ops.square(_float32(temperature))


def relational(
    teacher: Tensor,
    student: Tensor,
    temperature: Scalar = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """DIST: one minus the correlations of the probabilities, within each sample and within each class.

    ``T^2 * (beta * (1 - r(sample)) + gamma * mean over classes of (1 - r(class)))``; the second part is the same for
    all samples, which are all leading axes. ``weights``, ``(...)``, is what each counts in it. A correlation with
    something constant counts as 0.
    """
    scaled = [_scaled(logits, temperature) for logits in (teacher, student)]
    rows = [_probabilities_less_mean(z) for z in scaled]
    within_samples = cosine_distance(*rows)  # they have mean 0, so this is one minus the correlation
    columns = [_columns(z, v) for z, v in zip(scaled, rows)]
    weights = ops.ones_like(columns[0][:1]) if weights is None else ops.reshape(_float32(weights), (1, -1))
    total = ops.sum(weights)
    share = weights / ops.where(total > 0, total, 1.0)
    columns = [(v - ops.sum(v * share, axis=-1, keepdims=True)) * ops.sqrt(share) for v in columns]
    within_classes = ops.mean(cosine_distance(*columns))
    return (beta * within_samples + gamma * within_classes) * ops.square(_float32(temperature))


def cosine_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """One minus the cosine between two vectors in the last axis; 1 where one of them is zero.

    Computed as half the squared distance of the unit vectors, which does not cancel.
    """
    (a, a_exists), (b, b_exists) = _unit(_float32(teacher)), _unit(_float32(student))
    distance = 0.5 * ops.sum(ops.square(a - b), axis=-1)
    return ops.where(ops.logical_and(a_exists, b_exists), distance, 1.0)


def mean_squared_error(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean of the squared differences over the last axis."""
    return ops.mean(ops.square(_float32(teacher) - _float32(student)), axis=-1)


def attention_transfer(teacher: Tensor, student: Tensor, power: float = 2.0, weights: Tensor | None = None) -> Tensor:
    """Squared distance, ``(batch,)`` from 0 to 2, of two attention maps, each of length 1.

    A map is the mean over the channels, which may differ, of ``|feature|^power``. Positions where ``weights``,
    ``(batch, ...)``, is 0 are left out.
    """
    maps = []
    for features in (teacher, student):
        magnitude = ops.abs(_float32(features))
        largest = ops.max(magnitude, axis=tuple(range(1, len(magnitude.shape))), keepdims=True)
        attention = ops.mean(ops.power(magnitude / ops.where(largest > 0, largest, 1.0), power), axis=-1)
        if weights is not None:
            attention = ops.where(weights > 0, attention, 0.0)
        maps.append(_unit(ops.reshape(attention, (ops.shape(attention)[0], -1)))[0])
    return ops.sum(ops.square(maps[0] - maps[1]), axis=-1)


def attention_maps(teacher: Tensor, student: Tensor) -> Tensor:
    """Divergence, ``(batch, queries)``, of what each query attends to, from maps ``(batch, heads, queries, keys)``.

    Its mean over the heads; of the maps' mean over the heads where these are not as many.
    """
    if teacher.shape[1] != student.shape[1]:
        teacher, student = (ops.mean(_float32(maps), axis=1, keepdims=True) for maps in (teacher, student))
    logits = [probabilities_to_logits(maps, "softmax") for maps in (teacher, student)]
    return ops.mean(kl_divergence(*logits), axis=1)


def self_relations(teacher: Tensor, student: Tensor, heads: int, weights: Tensor | None = None) -> Tensor:
    """Divergence, ``(batch, length)``, of how each position relates to all others, from ``(batch, length, ...)``.

    Relations are a softmax of scaled dot products, of ``heads`` parts of the features each, of which the mean counts.
    Positions where ``weights``, ``(batch, length)``, is 0 relate to none, nor others to them.
    """
    logits = []
    for features in (teacher, student):
        shape, size = ops.shape(features), math.prod(features.shape[2:]) // heads
        parts = ops.reshape(_float32(features), (shape[0], shape[1], heads, size))
        products = ops.einsum("bqhd,bkhd->bhqk", parts, parts) / size**0.5
        if weights is not None:
            products = ops.where(ops.cast(weights, "float32")[:, None, None, :] > 0, products, _NEVER)
        logits.append(products)
    return ops.mean(kl_divergence(*logits), axis=1)


def probabilities_to_logits(probabilities: Tensor, activation: str) -> Tensor:
    """Logits that give these probabilities back, a softmax's up to a constant; below 1e-37 they count as that."""
    p = _float32(probabilities)
    log_p = ops.log(ops.maximum(p, 1e-37))
    return log_p if activation == "softmax" else log_p - ops.log(ops.maximum(1.0 - p, 1e-37))


def _float32(x: Tensor) -> Tensor:
    return ops.cast(x, "float32")


def _scaled(logits: Tensor, temperature: Scalar) -> Tensor:
    """Logits over the temperature, the largest of them 0: the difference is exact, so nothing is lost."""
    logits = _float32(logits)
    return (logits - ops.stop_gradient(ops.max(logits, axis=-1, keepdims=True))) / _float32(temperature)


def _log_softmax(z: Tensor) -> Tensor:
    """Exact also where a probability is nearly 1: ``log(1 + rest)`` over all classes but the largest."""
    largest = ops.one_hot(ops.argmax(z, axis=-1), z.shape[-1], dtype="bool")
    below = z - ops.sum(ops.where(largest, z, 0.0), axis=-1, keepdims=True)
    rest = ops.sum(ops.where(largest, 0.0, ops.exp(below)), axis=-1, keepdims=True)
    return below - ops.log1p(rest)


def _exp_less_line(c: Tensor) -> Tensor:
    """``e^c - 1 - c`` for ``|c| < 0.5``, by its series."""
    series: Scalar = 1 / 40320
    for factor in (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2):
        series = series * c + factor
    return series * ops.square(c)


def _probabilities_less_mean(z: Tensor) -> Tensor:
    """Softmax less ``1 / classes``, exact also where all probabilities are nearly equal."""
    u = ops.expm1(z)  # the largest z is 0
    classes = z.shape[-1]
    mean = ops.mean(u, axis=-1, keepdims=True)
    return (u - mean) / (classes * (1.0 + mean))


def _columns(z: Tensor, less_mean: Tensor) -> Tensor:
    """The probabilities of each class, shape ``(classes, samples)``, up to a constant for each class.

    What varies is exact: less ``1 / classes`` where all are near that, else as they are, down to the smallest.
    """
    p, v = (ops.transpose(ops.reshape(x, (-1, x.shape[-1]))) for x in (ops.exp(_log_softmax(z)), less_mean))
    return ops.where(ops.max(ops.abs(v), axis=-1, keepdims=True) < 0.5 / z.shape[-1], v, p)


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors of length 1, and which were not zero (those stay zero)."""
    largest = ops.stop_gradient(ops.max(ops.abs(x), axis=-1, keepdims=True))
    exists = largest > 0
    x = x / ops.where(exists, largest, 1.0)
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x / ops.sqrt(ops.where(exists, square, 1.0)), exists[..., 0]
