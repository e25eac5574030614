"""Samples for the look at a file without calibration data: a trained model knows what its inputs hold."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import keras
import numpy as np

from tfgreen.deploy.conversion.record import Conversion
from tfgreen.model.graph import LayerNode, inputs_by_name
from tfgreen.model.internals import is_container
from tfgreen.quantization.activation_quantizer import ranges_of_consumer
from tfgreen.quantization.feature_scales import statistics
from tfgreen.quantization.op_classes import inner_operation, is_pass_through
from tfgreen.structure import InputSpec

_DEVIATIONS = 2.0
Limits = tuple[np.ndarray, np.ndarray]  # of an input, or of each of its features
_DTYPES: dict[str, Limits] = {  # of which any number may come
    "bool": (np.array(0.0), np.array(1.0)),
    "uint8": (np.array(0.0), np.array(255.0)),
}


def made_samples(conversion: Conversion, count: int) -> dict[str, np.ndarray]:
    """Samples for each input of a model trained to be quantized, by name, within the range that it was trained in; ids
    are those of the table that they are looked up in. Left out is an input of which nothing says what it holds.

    One sample fills the range. The others have ends of their own, as bright and dark images have.
    """
    model, spec, rng = conversion.original, conversion.spec, np.random.default_rng(0)
    if not is_container(model) or conversion.has_open_sizes:
        return {}
    nodes = inputs_by_name(model, spec)
    samples = {}
    for item in spec.inputs:
        node = nodes[item.name]
        found = [*_limits(node), *([_DTYPES[item.dtype]] if item.dtype in _DTYPES else [])]
        if found or not node.consumers:  # what nothing reads may be anything
            # One limit may be of the whole input, another of each of its features.
            lower = functools.reduce(np.maximum, [low for low, _ in found]) if found else np.zeros(())
            upper = functools.reduce(np.minimum, [high for _, high in found]) if found else np.ones(())
            samples[item.name] = _drawn(item, node, (lower, upper), count, rng)
    return samples


def _drawn(item: InputSpec, node: LayerNode, limits: Limits, count: int, rng: np.random.Generator) -> np.ndarray:
    (lower, upper), shape = limits, (count, *(size or 1 for size in item.shape))
    if not item.dtype.startswith("float") or any(then.takes_indices for then in node.consumers):
        return rng.integers(np.ceil(lower), np.floor(upper) + 1, shape).astype(item.dtype)
    first, last = np.sort(rng.random((2, count, *[1] * len(item.shape))), axis=0)
    first[0], last[0] = 0.0, 1.0
    return (lower + (upper - lower) * (first + (last - first) * rng.random(shape))).astype(item.dtype)


def _limits(node: LayerNode) -> Iterator[Limits]:
    """The least and largest numbers that each layer which takes a tensor in can do with."""
    for then in node.consumers:
        layer, ranges = inner_operation(then.layer), ranges_of_consumer(node, then)
        mean, deviation = statistics(layer)
        if isinstance(layer, keras.layers.Embedding) and then.takes_indices:
            yield np.array(0.0), np.array(layer.input_dim - 1.0)
        elif isinstance(layer, keras.layers.CategoryEncoding):
            yield np.array(0.0), np.array(layer.num_tokens - 1.0)
        elif ranges:
            yield from ((range_.numbers()[0], range_.numbers()[1]) for range_ in ranges)
        elif deviation.any():
            yield mean - _DEVIATIONS * deviation, mean + _DEVIATIONS * deviation
        elif is_pass_through(layer):
            yield from _limits(then)
