"""Take channels out of a model: its copy with smaller weights, and with the settings that count them."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfgreen.errors import invalid_state
from tfgreen.model.copy import Copies
from tfgreen.model.internals import is_container, is_functional, resize_inputs, resize_variable, resized_input
from tfgreen.model.paths import join_path, own_weights, walk
from tfgreen.model.rebuild import rebuild
from tfgreen.surgery.channel_analysis import ChannelAnalysis, Setting
from tfgreen.surgery.channel_labels import Axis
from tfgreen.surgery.rules.table import has_rule
from tfgreen.surgery.saved_sizes import set_config
from tfgreen.surgery.trial import compare_outputs, culprits

if TYPE_CHECKING:
    from tfgreen.surgery.channel_groups import ChannelGroup


def remove_channels(
    model: keras.Model, analysis: ChannelAnalysis, removed: Iterable[tuple[ChannelGroup, np.ndarray]],
    samples: Mapping[str, np.ndarray] | None = None,
) -> keras.Model:
    """A copy of a model without some channels, compared with the model with these at zero; warns where that cannot be.

    Args:
        analysis: That of the model.
        removed: Groups, each with the indices of the channels to remove.
        samples: What to compare them on, by input; by default made up.

    Raises:
        ValueError: It computes something else than the model with these channels at zero.
    """
    removed = list(removed)
    slim = shrink(model, analysis, removed)
    error, unknown = compare_outputs(model, slim, removed, samples)
    if unknown:
        fix = "Pass calibration_data, on which it then is" if samples is None else "Compare them on your test data"
        why = f"That model '{model.name}' computes without channels what it does with these at zero was not checked"
        warnings.warn(f"{why}: {unknown}. {fix}.", stacklevel=3)
    if error:
        def fails(some: Sequence[tuple[ChannelGroup, np.ndarray]]) -> bool:
            return bool(compare_outputs(model, shrink(model, analysis, some), some, samples)[0])

        names = sorted({group.name for group, _ in culprits(removed, fails)})
        raise invalid_state(
            f"Without the channels of {names}, the outputs of model '{model.name}' are off by {error:.2g} of the "
            "largest: it computes something else than with these channels at zero.",
            f"Leave them as they are: keep={names}.",
        )
    return slim


def shrink(
    model: keras.Model, analysis: ChannelAnalysis, removed: Iterable[tuple[ChannelGroup, np.ndarray]]
) -> keras.Model:
    """The same, of which nothing is checked."""
    gone = {int(label) for group, channels in removed for label in group.labels[np.asarray(channels, int)]}

    def keep(labels: Axis) -> Any:
        return None if labels is None else ~np.isin(analysis.labels.roots(labels), list(gone))

    settings: dict[str, list[Setting]] = defaultdict(list)
    for setting in analysis.settings:
        settings[setting.path].append(setting)
    weights: dict[str, list[tuple[str, list[Any]]]] = defaultdict(list)
    for weight in analysis.weights.values():
        weights[weight.path].append((weight.name, [keep(labels) for labels in weight.axes]))

    def apply(path: str, operation: Any) -> Any:
        result = operation
        for setting in settings.get(path, []):
            result = setting.change(operation, keep(setting.labels)) or result
        if isinstance(operation, keras.Layer):
            own = own_weights(operation)
            for name, kept in weights.get(path, []):
                _shrink(own[name], kept)
            shapes = [[keep(labels) for labels in axes] for axes in analysis.shapes.get(path, ())]
            _set_shapes(operation, shapes)
        return result

    def replace(path: str, layer: keras.Layer) -> Any:
        inside = list(walk(layer))
        before = {id(weight): tuple(weight.shape) for weight in layer.weights}
        for below, sub in inside:
            apply(join_path(path, below), sub)
        result = apply(path, layer)
        inner = [(join_path(path, below), sub) for below, sub in reversed(inside)]
        for where, sub in [*inner, (path, layer)]:  # those inside first, whose configs another may hold
            if not has_rule(sub) and not is_container(sub):
                set_config(where, sub, before)
        # The graph of a model of its own class is replaced as a whole: its tensors are made anew, of their new shapes.
        return Copies().of(result) if not path and is_functional(result) else result

    def replace_input(path: str, layer: keras.layers.InputLayer) -> keras.layers.InputLayer:
        if path not in analysis.shapes:
            return layer
        kept = [keep(labels) for labels in analysis.shapes[path][0]]
        sizes = zip(layer.batch_shape, kept)
        return resized_input(layer, tuple(size if k is None else int(k.sum()) for size, k in sizes))

    return rebuild(model, replace, apply, replace_input)


def _shrink(variable: keras.Variable, kept: list[Any]) -> None:
    value = variable.numpy()
    for axis, keep in enumerate(kept):
        if keep is not None and len(keep) == value.shape[axis] and not keep.all():
            value = np.compress(keep, value, axis)
    if value.shape != tuple(variable.shape):
        resize_variable(variable, value)


def _set_shapes(layer: keras.Layer, inputs: list[list[Any]]) -> None:
    """Let a layer expect inputs of which, of each axis, only what is kept is left."""

    def resized(number: int, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if number >= len(inputs):
            return shape
        kept = inputs[number][-len(shape) :] if shape else []  # a spec may begin behind the first axes
        sizes = [None] * (len(shape) - len(kept)) + kept
        return tuple(
            int(keep.sum()) if keep is not None and len(keep) == size else size for size, keep in zip(shape, sizes)
        )

    if inputs:
        resize_inputs(layer, resized)
