"""Channel sensitivity: how much the outputs of a model change when a group loses its least important channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.surgery.channel_groups import ChannelGroup, ChannelGroups
from tfgreen.surgery.channel_selection import removal_order

_SHARES = (0.25, 0.5, 1.0)  # of the channels that can go


def channel_errors(
    groups: ChannelGroups, scores: Sequence[np.ndarray | None], samples: Mapping[str, np.ndarray]
) -> list[np.ndarray | None]:
    """Of each group, the relative squared error of the outputs without its 0, 1, 2, ... least important channels.

    Measured at a quarter, half and all of the channels that can go, and its root linear between; the channels are set
    to zero, which is what removing them does. Reference: H. Li et al., 2017, arXiv:1608.08710 (sensitivity of layers).

    Args:
        scores: How much each channel matters; None for a group that is not looked at.
        samples: An array for each input, by name.
    """
    analysis = groups.analysis
    model, spec = analysis.trace.model, read_call_spec(analysis.trace.model)
    variables = {(weight.path, weight.name): weight.variable for weight in analysis.weights.values()}

    count = len(next(iter(samples.values())))
    batches = [{name: tf.constant(x[part]) for name, x in samples.items()} for part in spec.slices(count, count)]

    @tf.function
    def run(batch: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        return [keras.ops.cast(out, "float32") for out in keras.tree.flatten(call_model(model, spec, batch))]

    def outputs() -> list[np.ndarray]:
        return [tf.concat(parts, axis=0).numpy() for parts in zip(*map(run, batches))]

    before = outputs()

    def error(group: ChannelGroup, channels: np.ndarray) -> float:
        held = {key: variables[key].numpy() for key in {(edge.layer, edge.weight) for edge in group.edges}}
        for edge in group.edges:
            variable = variables[edge.layer, edge.weight]
            value = np.moveaxis(variable.numpy().copy(), edge.axis, 0)
            value[edge.places[channels].ravel()] = 0
            variable.assign(np.moveaxis(value, 0, edge.axis))
        after = outputs()
        for key, value in held.items():
            variables[key].assign(value)
        return float(np.mean([((a - b) ** 2).sum() / max((b**2).sum(), 1e-12) for a, b in zip(after, before)]))

    found: list[np.ndarray | None] = []
    for group, score in zip(groups, scores):
        order = np.empty(0, int) if score is None else removal_order(group, score)
        if not len(order):
            found.append(None)
            continue
        counts = sorted({max(1, round(len(order) * share)) for share in _SHARES})
        roots = [error(group, order[:count]) ** 0.5 for count in counts]
        found.append(np.interp(np.arange(len(order) + 1), [0, *counts], [0.0, *roots]) ** 2)
    return found
