"""TFMOT's ``sparsity.keras``: pruning by magnitude on a schedule, over ``tg.prune``'s masks and its callback."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import keras

from tfgreen.compat.pruning_bases import PruningPolicy
from tfgreen.compat.saved import wrapped_by_tfmot
from tfgreen.compat.told import tell_difference
from tfgreen.compat.wrappers.pruned import PruneLowMagnitude
from tfgreen.compat.wrappers.strip import stripped
from tfgreen.compat.wrappers.wrapper import check_board_keywords, check_keywords, is_unbuilt, on_any, on_unbuilt
from tfgreen.errors import InvalidValueError, invalid_type, invalid_value
from tfgreen.model.paths import check_built_model, replaceable_layers
from tfgreen.reports.training_board import TrainingBoard
from tfgreen.techniques.prune import PruneConfig, masks_of
from tfgreen.training.callbacks import UpdateCompression
from tfgreen.training.schedules import ConstantSparsity, ScheduleLike, as_schedule
from tfgreen.transforms.base import ActivationHook, Chain
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.compressed import compressed_layers, has_transform
from tfgreen.transforms.mask import Mask
from tfgreen.transforms.selection import Pooling
from tfgreen.typing import FilePath, PlainDict

L = TypeVar("L")  # a model, layer or list of layers
_DIFFERENCE = (
    "a step is a finished batch, so the first masks are there before training and zeros stay zeros between updates; "
    "the input is copied, and the layers of a model keep their names; layers that TFMOT refuses are pruned, or left as "
    "they are."
)
_TAKES = (
    "`prune_low_magnitude` can only prune an object of the following types: keras.models.Sequential, keras functional "
    "model, keras.layers.Layer, list of keras.layers.Layer. You passed an object of type: {}."
)


def prune_low_magnitude(
    to_prune: L,
    pruning_schedule: ScheduleLike = ConstantSparsity(0.5, 0),
    block_size: tuple[int, int] = (1, 1),
    block_pooling_type: Pooling = "AVG",
    pruning_policy: PruningPolicy | None = None,
    sparsity_m_by_n: tuple[int, int] | None = None,
    **kwargs: Any,
) -> L:
    """Return a model, layer or list of layers that becomes sparse as it trains.

    Args:
        to_prune: A model, built or not, a layer or a list of layers. What has weights is copied.
        pruning_schedule: Sparsity over the steps: one of this package's schedules, TFMOT's, or one of your own.
        block_size: Rows and columns of blocks that are zero as a whole.
        block_pooling_type: ``"AVG"`` or ``"MAX"``, the score of a block.
        pruning_policy: Which layers of a model are pruned.
        sparsity_m_by_n: ``(m, n)``: m zeros in every n weights along the input channels.
        kwargs: Arguments of the wrapper's layer (``name``), where one layer is given.

    Raises:
        ValueError: It is nothing of the kind, a subclassed model without weights, or unfit for the policy.
        TypeError: It is of Keras 2.

    Example:
        >>> import keras, tfgreen.compat as tfmot
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> pruned = tfmot.sparsity.keras.prune_low_magnitude(model)
        >>> pruned.compile("sgd", "mse")
        >>> x = keras.random.normal((4, 8))
        >>> callbacks = [tfmot.sparsity.keras.UpdatePruningStep()]
        >>> _ = pruned.fit(x, x[:, :4], verbose=0, callbacks=callbacks)
        >>> kernel = tfmot.sparsity.keras.strip_pruning(pruned).get_layer("out").kernel
        >>> int((keras.ops.convert_to_numpy(kernel) == 0).sum())
        16
    """
    tell_difference("prune_low_magnitude", _DIFFERENCE)
    check_keywords("prune_low_magnitude", prune_low_magnitude, kwargs)
    config = _config(pruning_schedule, block_size, block_pooling_type, sparsity_m_by_n)

    def of_layer(layer: keras.Layer) -> keras.Layer:
        return PruneLowMagnitude(layer, config=config, **kwargs)

    result: L = on_any(to_prune, of_layer, lambda model: _prune_model(model, config, pruning_policy), _TAKES)
    return result


def _config(
    schedule: ScheduleLike, block_size: tuple[int, int], pooling: Pooling, m_by_n: tuple[int, int] | None
) -> PruneConfig:
    if m_by_n is not None and [type(number) for number in m_by_n] != [int, int]:
        raise InvalidValueError(f"sparsity_m_by_n must be a tuple or list of 2 integers, received: {m_by_n!r}.")
    if m_by_n is not None and not 1 <= m_by_n[0] < m_by_n[1]:
        expected = "(m, n): m zeros in every n weights, 1 <= m < n"
        raise invalid_value("sparsity_m_by_n", expected=expected, received=m_by_n)
    goal = as_schedule(schedule).goal
    if m_by_n is not None and goal is not None and goal[1] < m_by_n[0] / m_by_n[1]:
        schedule = ConstantSparsity(m_by_n[0] / m_by_n[1], 0)  # TFMOT goes by no schedule here; this one is too low
    return PruneConfig(schedule=schedule, block_size=block_size, block_pooling=pooling, m_by_n=m_by_n)


def _prune_model(model: keras.Model, config: PruneConfig, policy: PruningPolicy | None) -> keras.Model:
    if policy is not None:
        if isinstance(policy, type) or not hasattr(policy, "ensure_model_supports_pruning"):
            fix = "Pass an instance: pruning_policy=tfmot.sparsity.keras.PruneForLatencyOnXNNPack()."
            expected = "an instance of a PruningPolicy"
            raise invalid_type("pruning_policy", expected=expected, received=policy, fix=fix)
        policy.ensure_model_supports_pruning(model)
    if is_unbuilt(model):
        def of_layer(layer: keras.Layer) -> keras.Layer:
            refused = policy is not None and not policy.allow_pruning(layer)
            return layer if refused else PruneLowMagnitude(layer, config=config)

        return on_unbuilt(model, of_layer, _TAKES)
    check_built_model(model)
    refused = [] if policy is None else [p for p, layer in replaceable_layers(model) if not policy.allow_pruning(layer)]
    numbers = itertools.count(1)

    def choose(path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> Choice:
        pruned = any(isinstance(transform, Mask) for chain in chains.values() for transform in chain.transforms)
        if pruned or path in refused:
            return Choice(reason="" if pruned else "the pruning policy does not allow it")
        choice = masks_of(path, layer, config, numbers)
        held = [f"{inner}/" for inner, _ in compressed_layers(layer)]  # by a class of the user's: pruned already
        own = {name: item for name, item in choice.transforms.items() if not name.startswith(tuple(held))}
        return dataclasses.replace(choice, transforms=own)

    def wrap(layer: keras.Layer, chains: Sequence[Chain], activations: ActivationHook | None) -> PruneLowMagnitude:
        return PruneLowMagnitude.of_model(layer, chains, activations, config)

    result = compress(model, choose, wrap=wrap)
    if not has_transform(result, Mask):
        text = f"model '{model.name}' has no weight that can be pruned; tg.summary(model) says why for each layer."
        warnings.warn(text, stacklevel=3)
    return result


class UpdatePruningStep(UpdateCompression):
    """The callback that moves masks along; in a loop of your own too, as TFMOT's guide shows::

        callback = UpdatePruningStep()
        callback.set_model(model)  # whose optimizer is set
        callback.on_train_begin()
        for epoch in range(epochs):
            for x, y in batches:
                callback.on_train_batch_begin(batch=-1)
                ...  # forward, gradients, model.optimizer.apply_gradients
            callback.on_epoch_end(batch=-1)

    Batches are those that ``fit`` says have ended, or else the steps of the model's optimizer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fits = False
        self._iterations = 0

    def on_train_begin(self, logs: PlainDict | None = None) -> None:
        super().on_train_begin(logs)
        self._iterations = self._counted()

    def on_train_batch_begin(self, batch: int, logs: PlainDict | None = None) -> None:
        self._catch_up()

    def on_train_batch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        self._fits = True
        super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, batch: int, logs: PlainDict | None = None) -> None:
        self._catch_up()
        super().on_epoch_end(batch, logs)

    def _catch_up(self) -> None:
        finished = 0 if self._fits else self._counted() - self._iterations
        if finished > 0:
            self._iterations += finished
            self.step(finished)

    def _counted(self) -> int:
        optimizer = getattr(self.model, "optimizer", None)
        return 0 if optimizer is None else int(optimizer.iterations.numpy())


class PruningSummaries(TrainingBoard):
    """Losses, sparsity and threshold of each epoch for TensorBoard; see :class:`tfgreen.TrainingBoard`.

    Args:
        log_dir: Folder for the event files.
        update_freq: ``"epoch"``; what else TFMOT takes is written once per epoch too.
        kwargs: Arguments of ``keras.callbacks.TensorBoard``, of which there is no need.
    """

    def __init__(self, log_dir: FilePath, update_freq: str | int = "epoch", **kwargs: object) -> None:
        check_board_keywords("PruningSummaries", kwargs, ("log_dir", "update_freq"))
        super().__init__(log_dir)


def prune_scope() -> contextlib.AbstractContextManager[None]:
    """A context in which pruned models load; their classes are known to Keras without it."""
    return keras.saving.custom_object_scope(wrapped_by_tfmot("PruneLowMagnitude"))


def strip_pruning(model: L) -> L:
    """Return a copy of a model, or the layer in a wrapper, with the masks applied to the weights and taken off.

    What else a model has stays: shared values, and the ranges of one that is trained to be quantized.
    """
    result: L = stripped(model, Mask)
    return result
