"""TensorFlow operations of a traced model that others replace: the converter lacks them, or rounds what it must not.

- Floats that OneHot makes, and those that become integers (Cast, Bucketize), are kept apart from ranges: the converter
  would give each of the two values of OneHot a range of its own, or refuse it, and 2.999 would be cast to 2.
- DenseBincount, by which Keras encodes categories as ``"multi_hot"`` and ``"count"``, is a maximum or sum of OneHot.
- What the converter leaves out is left out before: sums with 0, products with 1, reductions over axes of size 1. What
  is then rounded twice in a row is kept apart in between: the converter would drop one range, or refuse the two.
- What stays in float32 and is concatenated is kept apart from the range of the whole, where more is computed of a part:
  the converter would round each part, also to the range of a tanh, and with it the state of a recurrent layer.
- Where a sum or product takes two tensors of one range, the second gets it by a detour: the converter moves a reshape
  of both behind the sum with the range of what it took before, and then refuses what it made.
- Keras adds what looks like a bias, a tensor of which all sizes but one are 1, by BiasAdd. One sample of shape (8, 1)
  does, and would be added along the last axis if that has 8 too. Along the first, the converter takes none.
- What a mask leaves of the scores of a softmax is -1e9, or -3e38. Of a range with that, integers tell no score from
  another, and attention would be even. Masked scores are as far below the least of the others as makes no difference.
- Keras's argmax tells 0 from -0 by bits, for which LiteRT has no operator. NumPy's does not, and integers have one 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfgreen.quantization.masked_scores import NEVER
from tfgreen.transforms.exporting import isolated, rounding_of, source_of

_INPUT = re.compile(r"input_\d+")  # see export.py
_BELOW = 12.0  # exp(-12) is 6e-6 of the least of the others
_BOUNDED = ("Tanh", "Sigmoid", "Softmax")  # which the converter gives a range of its own, in float32 too


def replace_operations(graph: tf.Graph, has_samples: bool, calibrated: bool = False) -> None:
    """Replace operations of a graph that is being traced; what stands in their place bears their scope.

    Args:
        has_samples: Whether operations between trained ranges get ranges by calibration, and do not stay in float32.
        calibrated: Whether floats become integers of the ranges that they have on samples.
    """
    trained = any(operation.type.startswith("FakeQuant") for operation in graph.get_operations())
    joined = [(("Pack", "ConcatV2"), _joined)] if trained and not has_samples else []
    for types, make in (*_REPLACED, *joined, *([(("Softmax",), _near_masked)] if calibrated else [])):
        for operation in graph.get_operations():
            if operation.type in types:
                (old,) = operation.outputs
                readers = [(reader, i) for reader in old.consumers() for i, x in enumerate(reader.inputs) if x is old]
                with tf.name_scope(f"{operation.name.rpartition('/')[0]}/"):
                    new = make(operation)
                for reader, index in readers if new is not old else ():
                    reader._update_input(index, new)


def _apart(one_hot: tf.Operation) -> tf.Tensor:
    return isolated(one_hot.outputs[0])


def _rounded_again(rounding: tf.Operation) -> tf.Tensor:
    x = rounding.inputs[0]
    if rounding_of(x) is not None or _is_bounded_float(x):
        rounding._update_input(0, isolated(x))
    return rounding.outputs[0]


def _is_bounded_float(x: tf.Tensor) -> bool:
    operation = source_of(x).op
    return operation.type in _BOUNDED and rounding_of(operation.inputs[0]) is None


def _joined(join: tf.Operation) -> tf.Tensor:
    parts = {i: x for i, x in enumerate(join.inputs) if x.dtype.is_floating and rounding_of(x) is None}
    apart = any(_is_bounded_float(x) or set(x.consumers()) != {join} for x in parts.values())
    for index, x in parts.items() if apart else ():
        join._update_input(index, isolated(x))
    return join.outputs[0]


def _near_masked(softmax: tf.Operation) -> tf.Tensor:
    """Let what a softmax reads hold no score further below the others than makes a difference."""
    choice = _as_computed(source_of(softmax.inputs[0]))
    scores, masked = _masked_scores(choice.op)
    if scores is not None and scores.shape.rank is not None:
        inner, more = _masked_scores(_as_computed(scores).op)
        while inner is not None:  # one mask after another
            scores, masked = inner, tf.logical_or(masked, more)
            inner, more = _masked_scores(_as_computed(scores).op)
        least = tf.reduce_min(scores, axis=list(range(scores.shape.rank)), keepdims=True)
        reader = softmax  # others may read the scores as they are
        while reader.inputs[0] is not choice and reader.inputs[0].op is not choice.op:
            reader = reader.inputs[0].op
        reader._update_input(0, tf.where(masked, least - _BELOW, scores))
    return softmax.outputs[0]


def _masked_scores(choice: tf.Operation) -> tuple[tf.Tensor | None, tf.Tensor | None]:
    """Scores, and where a mask leaves none of them: chosen by a condition, or a sum with 0 and -1e9."""
    if choice.type in ("SelectV2", "Select"):
        condition, chosen, other = choice.inputs
        if _is_never(other):
            return chosen, tf.logical_not(condition)
        return (other, condition) if _is_never(chosen) else (None, None)
    if choice.type == "AddV2":
        for scores, added in (tuple(choice.inputs), tuple(choice.inputs)[::-1]):
            masked = _masked_by(added)
            if masked is not None:
                return scores, masked
    return None, None


def _as_computed(x: tf.Tensor) -> tf.Tensor:
    """A tensor before the casts that keep it apart from ranges."""
    while x.op.type == "Cast" and x.op.inputs[0].op.type == "Cast" and x.op.inputs[0].op.inputs[0].dtype == x.dtype:
        x = x.op.inputs[0].op.inputs[0]
    return x


def _is_never(x: tf.Tensor) -> bool:
    value = tf.get_static_value(_as_computed(source_of(x)))
    return value is not None and bool(np.all(value <= NEVER))


def _is_zero(x: tf.Tensor) -> bool:
    value = tf.get_static_value(_as_computed(source_of(x)))
    return value is not None and not np.any(value)


def _masked_by(added: tf.Tensor) -> tf.Tensor | None:
    """Where a summand that is 0 or far below is far below: one that is constant, chosen, or a factor of 0 and 1."""
    added = _as_computed(added)
    value = tf.get_static_value(added)
    if value is not None:
        never = value <= NEVER
        return tf.constant(never) if np.any(never) and not np.any(value[~never]) else None
    if added.op.type == "Mul":
        for factor, never in (tuple(added.op.inputs), tuple(added.op.inputs)[::-1]):
            if _is_never(never):
                return isolated(factor) > 0.5  # in float32: LiteRT compares integers of two scales wrongly
    if added.op.type in ("SelectV2", "Select"):
        condition, chosen, other = added.op.inputs
        if _is_never(chosen) and _is_zero(other):
            return condition
        if _is_zero(chosen) and _is_never(other):
            return tf.logical_not(condition)
    return None


def _squeezed(reduction: tf.Operation) -> tf.Tensor:
    x, axes = reduction.inputs[0], tf.get_static_value(reduction.inputs[1])
    if axes is None or x.shape.rank is None or any(x.shape[int(axis)] != 1 for axis in np.ravel(axes)):
        return reduction.outputs[0]
    if reduction.type == "Cumsum":
        return reduction.outputs[0] if reduction.get_attr("exclusive") else x
    return x if reduction.get_attr("keep_dims") or not np.size(axes) else tf.squeeze(x, np.ravel(axes).tolist())


def _of_one_range(binary: tf.Operation) -> tf.Tensor:
    x, y = binary.inputs
    if binary.type == "Pow" and np.all(tf.get_static_value(y) == 2):  # of which the converter makes a product
        y = x
    rounding = rounding_of(y)
    if rounding is None or not _are_equal(rounding_of(x), rounding):
        return binary.outputs[0]
    ends, bits = rounding.inputs[1:], rounding.get_attr("num_bits")
    y = tf.quantization.fake_quant_with_min_max_vars(isolated(y), *ends, num_bits=bits)
    return getattr(tf.raw_ops, binary.type.replace("Pow", "Mul"))(x=x, y=y)


def _unchanged(binary: tf.Operation) -> tf.Tensor:
    neutral = 0.0 if binary.type in ("AddV2", "Sub") else 1.0
    pairs = [(binary.inputs[0], binary.inputs[1])]
    pairs += [(binary.inputs[1], binary.inputs[0])] if binary.type in ("AddV2", "Mul") else []
    for x, other in pairs:
        value = tf.get_static_value(other)
        if value is not None and np.all(value == neutral) and x.shape == binary.outputs[0].shape:
            return x
    return binary.outputs[0]


def _broadcast(bias_add: tf.Operation) -> tf.Tensor:
    x, bias = bias_add.inputs
    if bias.op.type == "Squeeze" and _is_of_inputs(bias.op.inputs[0]):
        return x + bias.op.inputs[0]
    if bias_add.get_attr("data_format") == b"NCHW" and len(x.shape) != 4:
        return x + tf.reshape(bias, [-1] + [1] * (len(x.shape) - 2))
    return bias_add.outputs[0]


def _is_of_inputs(x: tf.Tensor) -> bool:
    """Whether a tensor is computed of the model's inputs, not of its weights alone."""
    seen, waiting = {x.op.name}, [x.op]
    while waiting:
        operation = waiting.pop()
        if operation.type == "Placeholder" and _INPUT.fullmatch(operation.name):
            return True
        before = [tensor.op for tensor in operation.inputs if tensor.op.name not in seen]
        seen.update(one.name for one in before)
        waiting += before
    return False


def _are_equal(one: tf.Operation | None, other: tf.Operation) -> bool:
    """Whether two roundings have one range: theirs, or that of a layer called twice."""
    return one is not None and all(map(_is_same, one.inputs[1:], other.inputs[1:]))


def _is_same(one: tf.Tensor, other: tf.Tensor) -> bool:
    if one is other:
        return True
    if one.op.type == "Const":
        return bool(np.all(tf.get_static_value(one) == tf.get_static_value(other)))
    inputs = one.op.inputs
    same = one.op.type == other.op.type and 0 < len(inputs) == len(other.op.inputs)
    return same and all(map(_is_same, inputs, other.op.inputs))


def _counted(bincount: tf.Operation) -> tf.Tensor:
    x, size, weights = bincount.inputs
    classes = bincount.outputs[0].shape[-1]
    weighted = weights.shape.num_elements() != 0
    encoded = tf.one_hot(x, size if classes is None else classes, dtype=weights.dtype if weighted else "int32")
    encoded = encoded * weights[..., None] if weighted else encoded
    reduce = tf.reduce_max if bincount.get_attr("binary_output") else tf.reduce_sum
    return tf.cast(reduce(encoded, axis=-2), weights.dtype)


def _with_one_zero(argument: tf.Operation) -> tf.Tensor:
    (x, axis), old = argument.inputs, argument.outputs[0]
    plain = tf.reshape(_plain(x.op.inputs[0]), x.op.inputs[1]) if x.op.type == "Reshape" else _plain(x)  # axis=None
    find = tf.argmax if argument.type == "ArgMax" else tf.argmin
    return find(plain, axis, old.dtype)


def _plain(x: tf.Tensor) -> tf.Tensor:
    """What Keras has replaced the -0 of by something below 0, or the tensor itself."""
    chooses = x.op.type == "SelectV2" and x.op.inputs[0].op.type == "LogicalAnd"
    conditions = {tensor.op.type for tensor in x.op.inputs[0].op.inputs} if chooses else set()
    return x.op.inputs[2] if conditions == {"Equal", "Less"} else x


def _exact(integers: tf.Operation) -> tf.Tensor:
    (x,), old = integers.inputs, integers.outputs[0]
    if not x.dtype.is_floating or not old.dtype.is_integer:
        return old
    if integers.type == "Bucketize":
        return tf.raw_ops.Bucketize(input=isolated(x), boundaries=integers.get_attr("boundaries"))
    return _cast(x, old.dtype)


def _cast(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Integers of the integers that floats were, or of floats without a range; reshaped as these, if they were."""
    source, sizes = next(iter(x.op.inputs), x), [-1 if size is None else size for size in x.shape]
    if x.op.type in ("Reshape", "Squeeze", "ExpandDims") and sizes.count(-1) <= 1:
        return tf.reshape(_cast(source, dtype), sizes)
    return tf.cast(source if x.op.type == "Cast" and source.dtype.is_integer else isolated(x), dtype)


_ARITHMETIC = ("AddV2", "Sub", "Mul", "RealDiv", "Pow")
_REPLACED: tuple[tuple[tuple[str, ...], Callable[[tf.Operation], tf.Tensor]], ...] = (
    (("DenseBincount",), _counted),
    (("BiasAdd",), _broadcast),
    (("ArgMax", "ArgMin"), _with_one_zero),
    (("Cast", "Bucketize"), _exact),
    (("OneHot",), _apart),
    (_ARITHMETIC, _unchanged),
    (("Cumsum", "Max", "Mean", "Min", "Prod", "Sum"), _squeezed),
    (("FakeQuantWithMinMaxVars",), _rounded_again),
    (_ARITHMETIC, _of_one_range),
)
