"""UpdateCompression: the callback that moves masks along their schedules during ``fit``."""

from __future__ import annotations

from typing import Any

import keras

from tfgreen.errors import invalid_value
from tfgreen.model.graph import weights_by_path
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.layers import compressed_layers


class UpdateCompression(keras.callbacks.Callback):
    """Drive the transforms that have work between batches, such as pruning masks.

    A step is a finished batch: an update scheduled for step 0 runs before the first batch, one for step 100 after the
    hundredth. The count is kept in the model, so that saving, loading and fitting again continues it. With
    ``steps_per_execution > 1`` the updates that fell into one execution run once, after it.

    At the end of each epoch the share of zeros over all masked weights is added to the logs as ``sparsity``, so it
    shows in the progress bar and in ``History``.

    In a training loop of your own: ``callback.set_model(model)``, ``callback.on_train_begin()``, then
    ``callback.on_train_batch_end(batch)`` with ``batch`` counting from 0 after each step, and
    ``callback.on_train_end()``.

    Raises:
        ValueError: On the start of training, the model holds no compressed layer.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> pruned = tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0)))
        >>> pruned.compile("sgd", "mse")
        >>> history = pruned.fit(np.ones((4, 8)), np.ones((4, 4)), verbose=0, callbacks=[tg.UpdateCompression()])
        >>> history.history["sparsity"]
        [0.5]
    """

    def __init__(self) -> None:
        super().__init__()
        self._scheduled: list[tuple[keras.Variable, Chain, TensorTransform]] = []
        self._steps: list[int] = []
        self._batches = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        compressed = compressed_layers(self.model)
        if not compressed:
            raise invalid_value(
                f"model '{self.model.name}'",
                expected="a model with compressed layers",
                received="none",
                fix="Pass the model that tg.prune (or another tfgreen verb) returned.",
            )
        self._scheduled = []
        for _, layer in compressed:
            layer.watched = True
            weights = weights_by_path(layer.layer)
            for chain in layer.chains:
                self._scheduled += [(weights[chain.weight], chain, t) for t in chain.transforms if t.scheduled]
        self._steps = [int(keras.ops.convert_to_numpy(t.step)) for _, _, t in self._scheduled]
        self._batches = 0
        for (weight, chain, transform), step in zip(self._scheduled, self._steps):
            if step == 0 and transform.due(-1, 0):
                _update(weight, chain, transform, 0)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        # With steps_per_execution, several batches have ended, and Keras counts the last execution of an epoch as full.
        batches = min(batch + 1, (self.params or {}).get("steps") or batch + 1)
        finished, self._batches = batches - self._batches, batches
        for index, (weight, chain, transform) in enumerate(self._scheduled):
            last, step = self._steps[index], self._steps[index] + finished
            self._steps[index] = step
            transform.step.assign(step)
            if transform.due(last, step):
                _update(weight, chain, transform, step)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["sparsity"] = masked_share(self.model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        for _, layer in compressed_layers(self.model):
            layer.watched = False


def masked_share(model: keras.Model) -> float:
    """Share of zeros over all weights of a model that carry a mask, as they are computed with; 0 if none does."""
    zeros = size = 0
    for _, layer in compressed_layers(model):
        weights = weights_by_path(layer.layer)
        for chain in layer.chains:
            if chain.projects:
                effective = keras.ops.convert_to_numpy(chain.apply(weights[chain.weight].value))
                zeros += effective.size - int((effective != 0).sum())
                size += effective.size
    return zeros / size if size else 0.0


def _update(weight: keras.Variable, chain: Chain, transform: TensorTransform, step: int) -> None:
    """Let ``transform`` see the weight as it comes to it, then hold the stored weight to what the chain allows."""
    value = weight.value
    for earlier in chain.transforms[: chain.transforms.index(transform)]:
        value = earlier.apply(value)
    transform.update(value, step)
    if chain.projects:
        weight.assign(chain.project(weight.value))
