"""The loss that a run trains with: as the model was compiled, as the recipe says, or as outputs and targets tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfgreen.errors import invalid_state
from tfgreen.model.internals import compile_settings
from tfgreen.model.rebuild import rebuild
from tfgreen.recipes.data.checks import named_leaves
from tfgreen.recipes.data.split import Split

_SEEN = 64  # samples whose outputs are looked at


@dataclasses.dataclass(frozen=True)
class Losses:
    """What a model is compiled with besides its optimizer.

    Attributes:
        loss, loss_weights, metrics: As ``keras.Model.compile`` takes them.
        how: Where they come from.
    """

    loss: Any
    loss_weights: Any
    metrics: Any
    how: str

    def compile(self, model: keras.Model, optimizer: keras.Optimizer) -> None:
        """Compile a model with them; metrics are made anew."""
        metrics = keras.tree.map_structure(_own, self.metrics)
        model.compile(optimizer=optimizer, loss=self.loss, loss_weights=self.loss_weights, metrics=metrics)

    def is_of_classes(self, output: str | None, outputs: Sequence[str | None]) -> bool:
        """Whether the loss of one of the outputs compares probabilities of classes."""
        loss = self.loss
        if isinstance(loss, (list, tuple)):
            loss = dict(zip(outputs, loss))
        if isinstance(loss, Mapping):
            loss = loss.get(output, next(iter(loss.values())) if len(loss) == 1 else None)
        return "crossentropy" in str(getattr(loss, "name", None) or getattr(loss, "__name__", None) or loss).lower()


def _own(value: Any) -> Any:
    return type(value).from_config(value.get_config()) if isinstance(value, keras.Metric) else value


def losses_of(model: keras.Model, split: Split, given: str | Mapping[str, str] | None) -> Losses:
    """The losses of a model: those given, those it was compiled with, or those that its outputs and targets tell.

    Raises:
        ValueError: It cannot be told.
    """
    if given is not None:
        loss = given if isinstance(given, str) else dict(given)
        metrics = keras.tree.map_structure(_metric_of, loss)
        return Losses(loss, None, metrics if isinstance(metrics, dict) else [metrics], "as the recipe says")
    if model.compiled:
        settings = compile_settings(model)
        weights, metrics = settings.get("loss_weights"), settings.get("metrics")
        return Losses(settings.get("loss"), weights, metrics, "as the model was compiled")
    return _told(model, split)


def compiled(model: keras.Model, losses: Losses) -> keras.Model:
    """A copy of a model that is compiled with losses, to be asked for its metrics."""
    result: keras.Model = rebuild(model, lambda path, layer: layer)
    losses.compile(result, keras.optimizers.SGD())
    return result


def _metric_of(loss: Any) -> str:
    """What a model is judged by that is trained with a loss."""
    return "accuracy" if "crossentropy" in str(loss) else str(loss)


def _told(model: keras.Model, split: Split) -> Losses:
    """The losses that outputs and targets tell, output by output."""
    x, targets = split.samples(_SEEN), _targets(split)
    outputs = model.predict_on_batch(x) if not isinstance(x, dict) else model.predict_on_batch(x)
    values = named_leaves(outputs)
    if len(values) != len(targets):
        sentence = f"Model '{model.name}' has {len(values)} outputs, and the data has {len(targets)} targets."
        raise invalid_state(sentence, "Compile the model, or give the recipe its loss: by output.")
    found = [_loss_of(name, np.asarray(output), target) for (name, output), target in zip(values.items(), targets)]
    metrics = [_metric_of(loss.name if isinstance(loss, keras.losses.Loss) else loss) for loss in found]
    how = f"{', '.join(str(getattr(loss, 'name', loss)) for loss in found)}, as outputs and targets tell"
    if len(found) == 1:
        return Losses(found[0], None, [metrics[0]], how)
    if isinstance(outputs, Mapping):
        return Losses(dict(zip(outputs, found)), None, {key: [m] for key, m in zip(outputs, metrics)}, how)
    return Losses(found, None, [[metric] for metric in metrics], how)


def _targets(split: Split) -> list[np.ndarray]:
    y = next(iter(split.x))[1] if split.in_batches else split.y
    return [np.asarray(leaf) for leaf in named_leaves(y).values()]


def _loss_of(name: str, output: np.ndarray, target: np.ndarray) -> Any:
    """The loss of one output, from some of its values and its targets."""
    lies_in_01 = bool(output.min() >= -1e-6 and output.max() <= 1 + 1e-6)
    whole = target.dtype.kind in "iub"
    if output.ndim >= 2 and output.shape[-1] > 1:
        shape = target.shape[1:-1] if target.ndim > 1 and target.shape[-1] == 1 else target.shape[1:]
        if whole and shape == output.shape[1:-1] and target.min() >= 0 and target.max() < output.shape[-1]:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=not lies_in_01)
        is_one_hot = target.shape[1:] == output.shape[1:] and bool(((target == 0) | (target == 1)).all())
        if is_one_hot and bool((target.sum(axis=-1) == 1).all()):
            return keras.losses.CategoricalCrossentropy(from_logits=not lies_in_01)
    binary = bool(((target == 0) | (target == 1)).all())
    if binary and lies_in_01 and target[0].size == output[0].size:
        return keras.losses.BinaryCrossentropy()
    if not binary and not whole and target[0].size == output[0].size:
        return keras.losses.MeanSquaredError()
    what = f"output '{name}'" if name else "the output"
    sentence = (
        f"The loss cannot be told: {what} has shape {output.shape[1:]}, its targets {target.shape[1:]} of "
        f"{target.dtype}, without samples."
    )
    raise invalid_state(sentence, "Compile the model, or write loss: mean_squared_error (or another) into the recipe.")
