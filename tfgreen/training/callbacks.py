"""UpdateCompression: the callback that moves masks along their schedules, and refreshes codebooks, during ``fit``."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Hashable, Sequence

import keras
import tensorflow as tf

from tfgreen.checks import check_instance, check_integer
from tfgreen.errors import InvalidValueError, invalid_state, layer_subject
from tfgreen.model.batch_norm import fuse_training
from tfgreen.model.paths import weights_by_path
from tfgreen.training.input_ranges import InputRanges
from tfgreen.training.shortfall import shortfall
from tfgreen.transforms.base import TensorTransform
from tfgreen.transforms.compressed import ChainedWeight, chained_weights, compressed_layers
from tfgreen.transforms.mask import Mask
from tfgreen.transforms.selection import check_finite
from tfgreen.typing import PlainDict, Tensor, Tensors

_CHECKED = 100  # steps after which weights are looked at, besides the end of an epoch


class UpdateCompression(keras.callbacks.Callback):
    """Drive the transforms that have work between batches, such as pruning masks and codebooks.

    A step is a finished batch: an update for step 0 runs before the first batch, one for step 100 after the hundredth.
    The model holds the count, so that saving, loading and fitting again continues it. With ``steps_per_execution > 1``
    the updates of one execution run once, after it; the last of an epoch counts as full where Keras does not know the
    length of the data. The share of zeros over all masked weights is in the logs of each epoch as ``sparsity``. List it
    after callbacks that restore weights, such as ``EarlyStopping(restore_best_weights=True)``: what it says at the end
    of training is then of these, as it is of ``tg.summary``, ``tg.strip`` and ``tg.convert`` in any order.

    In a training loop of your own, make it with the model and call :meth:`step` after each optimizer step::

        update = tg.UpdateCompression(model)
        for x, y in batches:
            ...  # forward, gradients, optimizer.apply
            update.step()

    The optimizer must be a Keras one: it applies the constraint that keeps pruned weights at zero.

    Args:
        model: Only for a loop of your own; ``fit`` sets it.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: The model holds no compressed layer, or a weight became NaN or infinite; the layer is named.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> pruned = tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0)))
        >>> pruned.compile("sgd", "mse")
        >>> history = pruned.fit(np.ones((4, 8)), np.ones((4, 4)), verbose=0, callbacks=[tg.UpdateCompression()])
        >>> history.history["sparsity"]
        [0.5]
    """

    def __init__(self, model: keras.Model | None = None) -> None:
        super().__init__()
        self._scheduled: list[_Scheduled] = []
        self._batches = self._seen = 0
        self._advance: Callable[[Tensor], Tensors] | None = None  # set when training begins
        if model is not None:
            check_instance("model", model, keras.Model, "a keras.Model")
            self.set_model(model)
            self.on_train_begin()

    def on_train_begin(self, logs: PlainDict | None = None) -> None:
        compressed = compressed_layers(self.model)
        if not compressed:
            raise without_compressed(self.model)
        fuse_training(self.model)  # a loaded model trains as the one that was saved
        self._scheduled = [
            _Scheduled(f"{layer_subject(path, layer.layer)}, '{weight.chain.weight}'", weight, transform)
            for path, layer, weight in chained_weights(self.model)
            for transform in weight.chain.transforms
            if transform.scheduled
        ]
        for _, layer in compressed:
            layer.watched = True
        self._read_steps()
        steps = [item.transform.step for item in self._scheduled]
        steps += [layer.activations.step for _, layer in compressed if layer.activations is not None]
        self._finite = _Finite(self.model)
        # Concrete functions here and below: of others, made anew in each fit, TensorFlow warns as if it were a mistake.
        advance = tf.function(lambda count: [step.assign_add(count) for step in steps])
        self._advance = advance.get_concrete_function(tf.TensorSpec((), "int64"))
        self._input_ranges = InputRanges(self.model)
        self._project()  # weights may have been set since the last training
        _update(_due([(item, -1) for item in self._scheduled if item.step == 0]))

    def on_epoch_begin(self, epoch: int, logs: PlainDict | None = None) -> None:
        self._batches = 0
        self._read_steps()  # which keras.callbacks.BackupAndRestore may have restored since

    def on_train_batch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        # With steps_per_execution, several batches have ended, and Keras counts the last execution of an epoch as full.
        batches = min(batch + 1, (self.params or {}).get("steps") or batch + 1)
        self._step(batches - self._batches)
        self._batches = batches

    def step(self, count: int = 1) -> None:
        """Say that ``count`` more batches are finished, and do what was scheduled for them.

        Raises:
            TypeError, ValueError: ``count`` is no integer >= 1, there is no model or its training has not begun, or the
                call is inside a ``tf.function``.
        """
        check_integer("count", count, minimum=1)
        if not tf.executing_eagerly():
            raise invalid_state(
                "UpdateCompression.step is called inside a tf.function, where it runs only once, when that is traced.",
                "Call it after the function that makes the training step.",
            )
        self._step(int(count))

    def _step(self, count: int) -> None:
        if self._advance is None:
            what = "has no model" if self.model is None else "has a model, but its training has not begun"
            raise invalid_state(f"UpdateCompression {what}.", "Make it with the model: tg.UpdateCompression(model).")
        self._advance(tf.constant(count, "int64"))  # all counters in one call of a graph: a fifth of the time
        self._input_ranges.compare(count)
        self._seen += count
        if self._seen >= _CHECKED:
            self._check_finite()
        advanced = [(item, item.step) for item in self._scheduled]
        for item in self._scheduled:
            item.step += count
        _update(_due(advanced))

    def on_epoch_end(self, epoch: int, logs: PlainDict | None = None) -> None:
        self._check_finite()
        masks = [item.transform for item in self._scheduled if isinstance(item.transform, Mask)]
        if logs is not None and masks:
            sizes = [math.prod(mask.mask.shape) for mask in masks]
            logs["sparsity"] = float(sum(mask.sparsity * size for mask, size in zip(masks, sizes)) / sum(sizes))

    def on_train_end(self, logs: PlainDict | None = None) -> None:
        self._project()  # an optimizer with use_ema=True has just overwritten the weights by their averages
        self._check_finite()
        if text := shortfall(self.model):
            warnings.warn(
                f"{text} Train on, or end it earlier: an epoch has as many steps as batches. (A callback listed after "
                "tg.UpdateCompression() may still put back weights of an earlier step: tg.summary(model) says what "
                "then holds.)",
                stacklevel=2,
            )
        for _, layer in compressed_layers(self.model):
            layer.watched = False

    def _check_finite(self) -> None:
        self._seen = 0
        self._finite.check()

    def _project(self) -> None:
        for _, _, weight in chained_weights(self.model):
            weight.project()

    def _read_steps(self) -> None:
        for item in self._scheduled:
            item.step = int(keras.ops.convert_to_numpy(item.transform.step))


class _Finite:
    """Raise where a weight of a compressed layer is NaN or infinite, found by one call of a graph."""

    def __init__(self, model: keras.Model) -> None:
        found: dict[int, tuple[str, keras.Variable]] = {}
        for path, layer in compressed_layers(model):
            for name, variable in weights_by_path(layer.layer).items():
                if keras.backend.is_float_dtype(variable.dtype):
                    found.setdefault(id(variable), (f"{layer_subject(path, layer.layer)}, '{name}'", variable))
        self._named = list(found.values())
        every = tf.function(lambda: [tf.reduce_all(tf.math.is_finite(item.value)) for _, item in self._named])
        self._all = every.get_concrete_function()

    def check(self) -> None:
        for (name, variable), finite in zip(self._named, self._all()):
            if not finite:
                fix = "The training diverged: lower the learning rate."
                check_finite(keras.ops.convert_to_numpy(variable), name, fix)


def without_compressed(model: keras.Model) -> InvalidValueError:
    """The error for a model in which there is nothing for a callback to do."""
    fix = "Pass the model that tg.prune (or another tfgreen verb) returned."
    return invalid_state(f"model '{model.name}' has no compressed layer.", fix)


@dataclasses.dataclass
class _Scheduled:
    """A transform with work between batches, where it sits, and the batches it has seen."""

    name: str
    weight: ChainedWeight
    transform: TensorTransform
    step: int = 0

    def value(self) -> Tensor:
        """The weight as the transform gets it, from those before it in the chain."""
        transforms = self.weight.chain.transforms
        before = transforms[: transforms.index(self.transform)]
        return functools.reduce(lambda value, transform: transform.apply(value), before, self.weight.value)


def _due(advanced: Sequence[tuple[_Scheduled, int]]) -> list[_Scheduled]:
    """Those with work since the step given for each, and those that a transform before them in the chain changes."""
    due: list[_Scheduled] = []
    for item, last in advanced:
        if item.transform.due(last, item.step) or any(earlier.weight is item.weight for earlier in due):
            due.append(item)
    return due


def _update(due: Sequence[_Scheduled]) -> None:
    """Update the transforms, groups together, and hold the stored weights to what their chains then allow."""
    groups: dict[Hashable, list[_Scheduled]] = {}
    for index, item in enumerate(due):
        group = item.transform.group
        groups.setdefault((type(item.transform), item.step, index if group is None else group), []).append(item)
    for items in groups.values():
        values, names = [item.value() for item in items], [item.name for item in items]
        items[0].transform.update_together([item.transform for item in items], values, names, items[0].step)
    for item in due:
        item.weight.project()
