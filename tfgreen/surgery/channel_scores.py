"""Channel scores: the arrays of a model that a criterion of ``channel_importance`` needs, group by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfgreen.errors import invalid_state
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.layer_calls import around_calls
from tfgreen.model.paths import walk
from tfgreen.model.weights import own_compressible
from tfgreen.surgery.channel_groups import ChannelGroups
from tfgreen.surgery.channel_importance import (
    Criterion,
    gate_change,
    geometric_median_importance,
    mean_magnitude,
    norm_importance,
    random_importance,
    scale_importance,
    slices,
)
from tfgreen.transforms.importance import Loss, summed_loss
from tfgreen.transforms.lora import is_of_adapter, merged_value
from tfgreen.typing import Arrays, Tensor

READS_DATA = ("activation", "taylor", "hessian")

_BATCH = 32
_SCALES = ("gamma", "scale")


def channel_scores(
    groups: ChannelGroups,
    criterion: Criterion,
    samples: Mapping[str, np.ndarray] | None = None,
    y: Arrays | None = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> list[np.ndarray | None]:
    """How much each channel of each group matters; None for a group that the criterion cannot score.

    Args:
        samples: For the criteria that read data: an array for each input of the model, by name.
        y, loss: For ``"taylor"``: targets, and the loss of them; without, half the squared outputs stand for a loss.
    """
    if criterion in READS_DATA and samples is not None:
        return _from_data(groups, criterion, samples, y, loss, seed)
    weights, layers = {}, groups.analysis.layers
    for weight in groups.analysis.weights.values():
        if not is_of_adapter(layers[weight.path], weight.variable):
            merged = merged_value(layers[weight.path], weight.variable)
            weights[weight.path, weight.name] = keras.ops.convert_to_numpy(merged)
    found: list[np.ndarray | None] = []
    for number, group in enumerate(groups):
        edges = [edge for edge in group.edges if (edge.layer, edge.weight) in weights]
        parts = {(e.layer, e.weight, e.axis): slices(weights[e.layer, e.weight], e.axis, e.places) for e in edges}
        scales = [part for (_, name, _), part in parts.items() if name in _SCALES]
        matrices = [part for (path, name, _), part in parts.items() if weights[path, name].ndim > 1]
        if not all(np.isfinite(part).all() for part in parts.values()):
            raise invalid_state(f"Weights of '{group.name}' are NaN or infinite.", "Load a healthy checkpoint.")
        if criterion == "random":
            found.append(random_importance(group.size, seed, number))
        elif criterion == "bn_scale":
            found.append(scale_importance(scales) if scales else None)
        elif criterion == "geometric_median":
            found.append(geometric_median_importance(matrices or scales) if parts else None)
        else:
            found.append(norm_importance(matrices or scales or list(parts.values()), int(criterion[1])))
    return found


# Of a layer's input: the number of the group that it reads, the axis, and the places of each channel.
_Read = tuple[int, int, np.ndarray]


def _from_data(
    groups: ChannelGroups, criterion: Criterion, samples: Mapping[str, np.ndarray], y: Arrays | None,
    loss: Loss | None, seed: int,
) -> list[np.ndarray | None]:
    """Scores from what the layers read, averaged over the tensors that hold the channels of a group."""
    model, readers = groups.analysis.trace.model, _readers(groups)
    spec, rng = read_call_spec(model), np.random.default_rng(seed)
    layers = {layer: path for path, layer in walk(model) if path in readers}
    totals: list[dict[str, np.ndarray]] = [{} for _ in groups]
    count = len(next(iter(samples.values())))

    def pulled(outputs: list[Tensor], part: slice) -> Tensor:
        """The number whose gradient is taken."""
        if loss is not None and y is not None:
            targets = keras.tree.map_structure(lambda array: array[part], y)
            return summed_loss(loss, targets, outputs) * len(outputs[0])
        if criterion == "hessian":
            signs = [rng.choice((-1.0, 1.0), tensor.shape).astype("float32") for tensor in outputs]
            return sum(keras.ops.sum(sign * tensor) for sign, tensor in zip(signs, outputs))
        return sum(keras.ops.sum(keras.ops.square(tensor)) / 2 for tensor in outputs)

    for part in spec.slices(count, _BATCH):
        seen: list[tuple[str, Tensor]] = []

        def collect(layer: keras.Layer, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            tensor = next(tensor for tensor in keras.tree.flatten((args, kwargs)) if hasattr(tensor, "shape"))
            tape.watch(tensor)
            seen.append((layers[layer], tensor))
            return call(*args, **kwargs)

        batch = {name: array[part] for name, array in samples.items()}
        with tf.GradientTape() as tape, around_calls(layers, collect):
            outputs = keras.tree.flatten(call_model(model, spec, batch))
            total = pulled([keras.ops.cast(tensor, "float32") for tensor in outputs], part)
        tensors = [tensor for _, tensor in seen]
        gradients = tape.gradient(total, tensors, unconnected_gradients="zero")
        for (path, tensor), gradient in zip(seen, gradients):
            for number, axis, places in readers[path]:
                value = _by_channel(tensor, axis, places)
                if criterion == "activation":
                    score = mean_magnitude(value)
                else:
                    score = gate_change(value, _by_channel(gradient, axis, places))
                totals[number][path] = totals[number].get(path, 0) + score * len(value) / count
    scores = [np.mean(list(found.values()), 0) if found else None for found in totals]
    if not all(np.isfinite(score).all() for score in scores if score is not None):
        data = "calibration_data" if loss is None else "x and y"
        raise invalid_state(f"The model computes NaN or infinite values on {data}.", "Check its weights.")
    return scores


def _readers(groups: ChannelGroups) -> dict[str, list[_Read]]:
    """By path of a layer, the channels that its input holds.

    The layers are those that multiply the channels of a group by a kernel; if none does, all that read them.
    """
    analysis = groups.analysis
    layers = analysis.layers
    inside = tuple(f"{path}/" for path, layer in layers.items() if isinstance(layer, _LOOPS))
    owner = {label: (n, c) for n, group in enumerate(groups) for c, label in enumerate(group.labels.tolist())}
    found: list[list[tuple[str, _Read]]] = [[] for _ in groups]
    for path, inputs in analysis.shapes.items():
        if path.startswith(inside) or path not in layers or not inputs:
            continue
        for axis, labels in enumerate(inputs[0]):
            if labels is None or axis == 0:
                continue
            owners = np.array([owner.get(root, (-1, -1)) for root in analysis.labels.roots(labels).tolist()])
            for number in set(owners[:, 0].tolist()) - {-1}:
                channels = np.where(owners[:, 0] == number, owners[:, 1], -1)
                counts = np.bincount(channels[channels >= 0], minlength=groups[number].size)
                if counts.min() == counts.max():
                    places = np.argsort(channels, kind="stable")[-counts.sum() :].reshape(len(counts), -1)
                    found[number].append((path, (number, axis, places)))
    readers: dict[str, list[_Read]] = {}
    for reads in found:
        multiplied = [(path, read) for path, read in reads if _multiplies(layers[path])]
        for path, read in multiplied or reads:
            readers.setdefault(path, []).append(read)
    return readers


# Layers that call those inside of them on symbolic tensors.
_LOOPS = (keras.layers.RNN, keras.layers.Wrapper)


def _multiplies(layer: keras.Layer) -> bool:
    return bool(own_compressible(layer)) or isinstance(layer, _LOOPS)


def _by_channel(tensor: Tensor, axis: int, places: np.ndarray) -> np.ndarray:
    """An array of shape (samples, channels, positions): what goes with one channel are further positions."""
    moved = np.moveaxis(np.asarray(tensor, np.float32), axis, 1)
    return moved[:, places].reshape(len(moved), len(places), -1)
