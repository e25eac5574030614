"""Gradient accumulation: a batch goes through the model in parts, and the weights are updated once, as by the whole.

Keras's ``gradient_accumulation_steps`` takes K batches for one update instead, which is not the update of one large
batch where an epoch ends with a smaller one, and fails under ``tf.distribute.MirroredStrategy``
(https://github.com/keras-team/keras/issues/20582). Here the batch stays the unit of ``fit``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.model.internals import compiled_losses, keras_mask
from tfgreen.model.layer_calls import listening
from tfgreen.quantization.following import following, following_ranges
from tfgreen.typing import PlainDict, Tensor, Tensors

# What Keras calls with the data of one batch, and returns the metrics: ``keras.Model.train_step``.
TrainStep = Callable[[Tensors], PlainDict]
_MEANS = ("sum_over_batch_size", "mean")
_TOO_SMALL = "samples in the first batch of a device, which accumulate cannot cut into so many parts:"


@dataclasses.dataclass
class _Part:
    """What one part of a batch came to: its calls of ``optimizer.apply``, and what its loss is the mean of."""

    updates: list[tuple[list[Any], Any]]
    count: Any
    share: Any  # of the samples of the batch
    masked: bool = False  # whether the count is not the number of samples
    means: list[tuple[keras.metrics.Mean, Any, Any]] = dataclasses.field(default_factory=list)  # with value and weight
    results: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)  # of metrics, which hold earlier parts too

    def values_of(self, logs: PlainDict) -> PlainDict:
        """What a step of a user's own returns that is no result of a metric, but a value of this part alone."""
        known = {id(result) for _, result in self.results}
        values = {name: tf.convert_to_tensor(value) for name, value in logs.items() if id(value) not in known}
        return {name: value for name, value in values.items() if value.dtype.is_floating}

    def again(self, logs: PlainDict, metric: keras.metrics.Mean) -> PlainDict:
        """The result that a metric has by now, by the name that the step gave it."""
        known = {id(result) for one, result in self.results if one is metric}
        return {name: metric.result() for name, value in logs.items() if id(value) in known}


def accumulated(model: keras.Model, step: TrainStep, parts: int) -> TrainStep:
    """A training step that runs ``step`` on ``parts`` parts of the batch in turn, and then updates the weights once.

    The gradient of each part, and what a step of a user's own returns, counts by what its loss is the mean of: its
    samples, or the valid positions of a mask. Metrics of the model come to what they do for the whole batch; they are
    to be built before, see :func:`tfgreen.model.internals.build_metrics`. Ranges of a quantized model that move with
    the batches move by the whole one, see :func:`tfgreen.quantization.following.following`. A batch of fewer
    samples than parts, as an epoch may end in one, goes through one by one; if it is the first one, the step raises,
    see :func:`naming_small_batches`.

    Raises:
        ValueError: The model is compiled with a loss that is no mean over the samples, has several optimizers, or has
            one that accumulates itself.
    """
    _check(model)
    started = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    ranges = following_ranges(model)

    @functools.wraps(step)
    def accumulated_step(data: Tensors) -> PlainDict:
        if not ranges:
            return step_in_parts(data)
        with following(model, ranges, keras.utils.unpack_x_y_sample_weight(data)[0]):
            return step_in_parts(data)

    def step_in_parts(data: Tensors) -> PlainDict:
        samples = _samples(data)
        is_first = tf.equal(model.optimizer.iterations.value, started)
        is_enough = tf.logical_or(samples >= parts, ~is_first) if model.trainable_variables else True  # none is counted
        check = tf.debugging.Assert(is_enough, [samples, _TOO_SMALL, parts])
        number_of_parts = min(parts, samples) if isinstance(samples, int) else parts
        sums: list[tuple[list[Any], Any]] = []
        total: Any = 0.0
        logs: PlainDict = {}
        values: PlainDict = {}
        means: dict[int, tuple[keras.metrics.Mean, Any, Any]] = {}
        for number in range(number_of_parts):
            first, end = (-(-samples * i // number_of_parts) for i in (number, number + 1))  # the first is never empty
            may_be_empty = number > 0 and not isinstance(samples, int)
            empty = tf.equal(first, end) if may_be_empty else False
            if may_be_empty:  # then it computes on some sample
                first = tf.minimum(first, samples - 1)
                end = tf.maximum(end, first + 1)
            # One part after the other: all together would need the memory of the whole batch.
            with tf.control_dependencies([check] + [g for gradients, _ in sums for g in gradients if g is not None]):
                # A tf.cond would leave an empty part out, but not hold what layers assign under MirroredStrategy.
                state = {id(v): (v, tf.identity(v.value)) for v in _state(model)} if may_be_empty else {}
                count = tf.cast(end - first, "float32")
                part = _Part([], count, tf.math.divide_no_nan(count, tf.cast(samples, "float32")))
                with _collecting(model, part):
                    logs = step(tf.nest.map_structure(functools.partial(_rows, first=first, end=end), data))
                for variable, before in state.values():
                    variable.assign(tf.where(empty, before, variable.value))
            # A batch may hold nothing, or nothing but masked positions: then all parts count alike.
            count = tf.where(empty, 0.0, tf.maximum(part.count, 1e-12))
            sums = _added(sums, part.updates, count)
            for name, value in part.values_of(logs).items():
                values[name] = values.get(name, 0.0) + tf.cast(value, "float32") * count
            for metric, value, weight in part.means:
                _, earlier, weights = means.get(id(metric), (metric, 0.0, 0.0))
                weight = tf.where(empty, 0.0, tf.cast(weight, "float32"))
                means[id(metric)] = metric, earlier + tf.cast(value, "float32") * count, weights + weight
            total += count
        for gradients, variables in sums:
            whole = [g if g is None else g / tf.cast(total, g.dtype) for g in gradients]
            model.optimizer.apply(whole, variables)
        for metric, value, weight in means.values():
            metric.update_state(value / total, weight)
            logs = {**logs, **part.again(logs, metric)}
        return {**logs, **{name: value / total for name, value in values.items()}}

    return accumulated_step


@contextlib.contextmanager
def naming_small_batches() -> Iterator[None]:
    """In the block, an error of ours for a first batch that is too small for an accumulated step, or for new variables
    that a step of a user's own makes where XLA allows none."""
    try:
        yield
    except tf.errors.UnimplementedError as error:
        if "variable creations" not in error.message:
            raise
        raise invalid_state(
            "accumulate runs a train_step that makes variables, such as those of metrics, in a function for XLA.",
            "Compile the model with jit_compile=False, or train it for one step without accumulate first.",
        ) from error
    except tf.errors.InvalidArgumentError as error:
        found = re.search(rf"\[(\d+)\] \[{re.escape(_TOO_SMALL)}\] \[(\d+)\]", error.message)
        if found is None:
            raise
        expected = f"at most the samples that a device gets of a batch, which are {found[1]} in the first one"
        fix = "Raise the batch size of the data, or lower accumulate."
        raise invalid_value("accumulate", expected=expected, received=int(found[2]), fix=fix) from error


def _check(model: keras.Model) -> None:
    optimizers = [name for name, value in vars(model).items() if isinstance(value, keras.Optimizer)]
    others = [name for name in optimizers if getattr(model, name) is not model.optimizer]
    fix = "Train it with accumulate=1."
    if others:
        expected = "a model with one optimizer, of which the updates can be put off"
        raise invalid_value(f"model '{model.name}'", expected=expected, received=f"others: {others}", fix=fix)
    if getattr(model.optimizer, "gradient_accumulation_steps", None):
        expected, received = "an optimizer without gradient_accumulation_steps", "one that accumulates itself"
        raise invalid_value("optimizer", expected=expected, received=received, fix="Set one of the two.")
    for tensor in getattr(model, "inputs", None) or ():
        if tensor.shape and tensor.shape[0] is not None:
            expected = "an open batch size, as its batches go through it in parts"
            received = f"one of {tensor.shape[0]} at its input '{tensor.name}'"
            raise invalid_value(f"model '{model.name}'", expected=expected, received=received, fix=fix)
    for loss in keras.tree.flatten(model.loss):
        reduction = getattr(loss, "reduction", None)
        if isinstance(loss, keras.losses.Loss) and reduction not in _MEANS:
            expected = f"a reduction of {' or '.join(_MEANS)}, which parts of a batch can be averaged by"
            raise invalid_value(f"loss '{loss.name}'", expected=expected, received=reduction, fix=fix)


def _samples(data: Tensors) -> Any:
    """The number of samples of a batch: an int where the graph knows it."""
    first = next(leaf for leaf in tf.nest.flatten(data) if leaf is not None)
    return first.shape[0] if first.shape[0] is not None else tf.shape(first)[0]


def _rows(tensor: Any, first: Any, end: Any) -> Any:
    if isinstance(tensor, (tf.SparseTensor, tf.RaggedTensor)):
        raise invalid_type("data", expected="dense tensors, which can be cut into parts", received=tensor)
    return tensor if tensor is None else tensor[first:end]


def _state(model: keras.Model) -> list[keras.Variable]:
    """What a training step changes besides the weights it trains."""
    return [*model.non_trainable_variables, *model.metrics_variables]


@contextlib.contextmanager
def _collecting(model: keras.Model, part: _Part) -> Iterator[None]:
    """In the block, keep the updates of the model's optimizer in ``part`` instead of applying them."""

    def apply(optimizer: Any, call: Any, gradients: Iterable[Any], variables: Any = None) -> None:
        part.updates.append((list(gradients), variables))

    masks: list[Tensor] = []  # that losses made by themselves, as of a class to ignore

    def of_loss(loss: Any, call: Any, *args: Any, **kwargs: Any) -> Tensor:
        found = call(*args, **kwargs)
        if not len(found.shape):
            warnings.warn(
                f"loss '{loss.name}' returns one number for a batch. accumulate averages those of the parts, which is "
                "that of the whole batch only where it is a mean over samples: return a number for each sample.",
                stacklevel=2,
            )
        masks.extend(mask for mask in [keras_mask(found)] if mask is not None)
        return found

    def compute_loss(model: Any, call: Any, *args: Any, **kwargs: Any) -> Tensor:
        masks.clear()
        loss = call(*args, **kwargs)
        leaves = keras.tree.flatten(kwargs["y_pred"] if "y_pred" in kwargs else args[2])
        masks.extend(mask for leaf in leaves if (mask := keras_mask(leaf)) is not None)
        if masks and len(leaves) > 1:
            warnings.warn(
                "accumulate counts the parts of a batch by their samples, while outputs have masks of their own: the "
                "update is that of the whole batch only where all parts have as many valid positions.",
                stacklevel=2,
            )
        elif masks:
            valid = functools.reduce(tf.logical_and, masks)
            part.count, part.masked = tf.reduce_sum(tf.cast(valid, "float32")), True
        return loss

    def update_state(metric: Any, call: Any, values: Any, sample_weight: Any = None) -> Any:
        if tf.convert_to_tensor(values).shape.rank:
            return call(values, sample_weight)
        weight = part.share if sample_weight is None else sample_weight  # a mean of the part, as of a loss
        if not part.masked:
            return call(values, weight)
        part.means.append((metric, values, weight))
        return None

    def result(metric: Any, call: Any) -> Any:
        found = call()
        part.results += [(metric, one) for one in keras.tree.flatten(found)]
        return found

    losses = {(loss, "call"): of_loss for loss in compiled_losses(model)}
    means = {(metric, "update_state"): update_state for metric in model.metrics if type(metric) is keras.metrics.Mean}
    results = {(metric, "result"): result for metric in model.metrics}
    steps: dict[tuple[Any, str], Callable[..., Any]] = {(model, "compute_loss"): compute_loss}
    steps[model.optimizer, "apply"] = apply
    with listening({**steps, **losses, **means, **results}):
        yield


def _added(sums: list[tuple[list[Any], Any]], updates: list[tuple[list[Any], Any]], count: Tensor) -> list[Any]:
    """The gradients of one part, times its count, added to the sums so far."""
    scaled = [
        ([g if g is None else tf.convert_to_tensor(g) * tf.cast(count, g.dtype) for g in gradients], variables)
        for gradients, variables in updates
    ]
    if not sums:
        return scaled
    return [
        ([b if a is None else a if b is None else a + b for a, b in zip(one, other, strict=True)], variables)
        for (one, variables), (other, _) in zip(sums, scaled, strict=True)
    ]
