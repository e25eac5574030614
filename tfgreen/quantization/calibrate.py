"""Start the ranges of a quantized model from calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from tfgreen.errors import InvalidValueError, invalid_type, invalid_value
from tfgreen.model.internals import input_layers
from tfgreen.model.samples import without_targets
from tfgreen.quantization.histogram import Histogram
from tfgreen.quantization.ranges import start_range
from tfgreen.transforms.compressed import compressed_layers

_BATCH = 32
_SUBJECT = "calibration_data"


def calibrate(model: keras.Model, data: Any, method_of: Callable[[str], str]) -> None:
    """Run the data through a quantized model, its activations not rounded, and start every range from what it held.

    Raises:
        ValueError: The data is empty, not finite or of another shape or structure than the model's inputs, or an
            activation is not finite; the layer is named.
        TypeError: It is neither arrays nor an iterable of batches, or does not hold numbers.
    """
    ranges = [
        (path, range_, Histogram())
        for path, layer in compressed_layers(model)
        if layer.activations is not None
        for range_ in layer.activations.ranges()
    ]
    try:
        for _, range_, histogram in ranges:
            range_.recorder = histogram
        samples = 0
        for batch in batches_of(data):
            samples += check_samples(model, batch)
            model(batch, training=False)
    finally:
        for _, range_, _ in ranges:
            range_.recorder = None
    if not samples:
        raise invalid_value(_SUBJECT, expected="at least one sample", received="none")
    for path, range_, histogram in ranges:
        if not histogram.finite:
            raise invalid_value(
                f"layer '{path}'", expected="finite activations on the calibration data", received="NaN or infinity",
                fix="Check the weights of the model and the scale of the data.",
            )  # fmt: skip
        if histogram.lower <= histogram.upper:  # a comparison, say, makes no numbers to round
            start_range(range_, histogram, method_of(path))


def check_samples(model: keras.Model, batch: Any) -> int:
    """The number of samples of a batch, which has to fit the model's inputs."""
    inputs = input_layers(model)
    wanted = {layer.name: tuple(layer.batch_shape) for layer in keras.tree.flatten(inputs)}
    leaves = keras.tree.flatten(batch)
    if len(leaves) != len(wanted) or isinstance(batch, dict) != isinstance(inputs, dict):
        raise _unfit(f"{len(wanted)} inputs ({', '.join(wanted)}) as the model takes them", _described(batch))
    if isinstance(batch, dict) and set(batch) != set(inputs):
        raise _unfit(f"the inputs {sorted(inputs)}", sorted(batch))
    for (name, shape), leaf in zip(wanted.items(), leaves):
        array = np.asarray(leaf)
        if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
            raise invalid_type(f"{_SUBJECT} of input '{name}' (dtype {array.dtype})", expected="numbers", received=leaf)
        fits = len(array.shape) == len(shape) and all(s in (None, n) for s, n in zip(shape[1:], array.shape[1:]))
        if not fits:
            raise _unfit(f"batches of shape {('samples', *shape[1:])} for input '{name}'", array.shape)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _unfit("finite numbers", f"{int((~np.isfinite(array)).sum())} NaN or infinite ones in input '{name}'")
    return len(leaves[0])


def _unfit(expected: str, received: object) -> InvalidValueError:
    return invalid_value(_SUBJECT, expected=expected, received=received)


def _described(batch: Any) -> str:
    names = f" by the names {sorted(batch)}" if isinstance(batch, dict) else ""
    return f"{len(keras.tree.flatten(batch))} arrays{names}"


def batches_of(data: Any) -> Iterator[Any]:
    """Batches of arrays: slices of arrays in a structure, or the items of an iterable without their targets."""
    leaves = keras.tree.flatten(data)
    if all(hasattr(leaf, "shape") and hasattr(leaf, "__getitem__") for leaf in leaves):
        sizes = {len(leaf) if leaf.shape else 0 for leaf in leaves}
        if len(sizes) > 1:
            raise invalid_value(_SUBJECT, expected="as many samples for every input", received=sorted(sizes))
        for start in range(0, max(sizes, default=0), _BATCH):
            yield keras.tree.map_structure(lambda array: array[start : start + _BATCH], data)
    elif isinstance(data, (str, bytes, dict)) or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise invalid_type(_SUBJECT, expected="arrays, or an iterable of batches", received=data)
    else:
        yield from without_targets(data)
