"""Importance of weights from data: the norm of what they multiply, and the size of their gradient.

References: M. Sun et al., 2023, arXiv:2306.11695 (``|w| * ||x||``); P. Molchanov et al., 2019, arXiv:1906.10771
(``(w * dL/dw)^2``, averaged over batches).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import keras
import numpy as np
from keras import layers, ops

from tfgreen.errors import invalid_state, invalid_type, invalid_value, layer_subject
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.layer_calls import around_calls
from tfgreen.model.paths import own_weights, walk
from tfgreen.model.samples import sample_arrays, sample_batches
from tfgreen.model.weights import own_compressible
from tfgreen.typing import Arrays, Samples, Tensor, Tensors

# A Keras loss, its name, or a function of targets and outputs.
Loss: TypeAlias = "str | keras.losses.Loss | Callable[[Tensor, Tensor], Tensor]"

_BATCH = 32


def activation_importance(model: keras.Model, calibration_data: Samples) -> dict[int, np.ndarray]:
    """Root of the summed squares of what each weight multiplies, over all samples.

    Args:
        model: A built model. It runs in inference mode and is not changed.
        calibration_data: Samples in any form that :func:`tfgreen.model.samples.sample_batches` takes.

    Returns:
        ``id`` of each compressible variable -> float32 array that broadcasts against it: one norm per input channel.

    Raises:
        TypeError, ValueError: The data does not fit the model, or the input of a layer does not show its channels; the
            layer is named.
    """
    spec = read_call_spec(model)
    sums: dict[int, np.ndarray | float] = defaultdict(float)
    paths = {layer: path for path, layer in [(model.name, model), *walk(model)]}

    def collect(layer: keras.Layer, call: Callable[..., Tensors], /, *args: Tensors, **kwargs: object) -> Tensors:
        for name, axes in own_compressible(layer).items():
            variable = own_weights(layer)[name]
            squares = _squares(layer, name, args, kwargs)
            shape = [1] * len(variable.shape)
            for axis in axes.inputs:
                shape[axis] = variable.shape[axis]
            channels = math.prod(shape)
            if squares is None or math.prod(squares.shape) % channels:
                raise invalid_state(
                    f"{layer_subject(paths[layer], layer)} does not show in its call the {channels} channels that "
                    f"'{name}' multiplies.",
                    f"Choose another criterion for this layer, or leave it out: layers={{'{paths[layer]}': None}}.",
                )
            # Groups of a grouped convolution share one kernel axis: their squares add up.
            sums[id(variable)] += ops.convert_to_numpy(squares).reshape(-1, channels).sum(0).reshape(shape)
        return call(*args, **kwargs)

    with around_calls(paths, collect):
        for batch in sample_batches(calibration_data, spec):
            call_model(model, spec, batch)
    return _checked({key: np.sqrt(total).astype(np.float32) for key, total in sums.items()})


def taylor_importance(model: keras.Model, x: Samples, y: Arrays, loss: Loss) -> dict[int, np.ndarray]:
    """Root mean square of the gradient of each compressible weight over batches of 32.

    Multiplied by ``|w|`` and squared it is the first-order estimate of how much the loss changes without the weight.

    Args:
        model: A built model. It runs in inference mode and is not changed.
        x: Samples in any form that :func:`tfgreen.model.samples.sample_arrays` takes.
        y: Targets: arrays in the structure of its outputs.
        loss: A Keras loss, or its name; for several outputs one for all.

    Returns:
        ``id`` of each compressible variable -> float32 array of its shape.

    Raises:
        TypeError, ValueError: ``x`` does not fit the model, or ``y`` has another number of samples; the gradients are
            not finite.
    """
    import tensorflow as tf

    spec = read_call_spec(model)
    arrays = sample_arrays(x, spec)
    _check_targets(y, len(next(iter(arrays.values()))))
    loss_function = keras.losses.get(loss)
    every_layer = [model, *(layer for _, layer in walk(model))]
    variables = [own_weights(layer)[name] for layer in every_layer for name in own_compressible(layer)]
    sums: list[np.ndarray | float] = [0.0] * len(variables)
    count = 0
    for inputs, targets in zip(sample_batches(arrays, spec, _BATCH), _batches(y)):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            outputs = keras.tree.flatten(call_model(model, spec, inputs))
            total = sum(ops.mean(loss_function(t, o)) for t, o in zip(keras.tree.flatten(targets), outputs))
        gradients = tape.gradient(total, [variable.value for variable in variables])
        dense = [0.0 if g is None else ops.convert_to_numpy(tf.convert_to_tensor(g)) for g in gradients]
        sums = [s + g**2 for s, g in zip(sums, dense)]
        count += 1
    roots = [np.broadcast_to(np.sqrt(s / count), v.shape).astype(np.float32) for v, s in zip(variables, sums)]
    return _checked({id(variable): root for variable, root in zip(variables, roots)})


def _check_targets(y: Arrays, count: int) -> None:
    leaves = keras.tree.flatten(y)
    for leaf in leaves:
        if not getattr(leaf, "shape", ()):
            raise invalid_type("y", expected="arrays of shape (samples, ...)", received=leaf)
    counts = [int(leaf.shape[0]) for leaf in leaves]
    if set(counts) != {count}:
        raise invalid_value("y", expected=f"targets of {count} samples, as x has", received=counts)


def _checked(importance: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    if not all(np.isfinite(array).all() for array in importance.values()):
        fix = "Check its weights, and scale the samples as for training."
        raise invalid_state("The model computes NaN or infinite values on calibration_data.", fix)
    return importance


def _batches(data: Arrays) -> Iterator[Arrays]:
    size = len(keras.tree.flatten(data)[0])
    for start in range(0, size, _BATCH):
        yield keras.tree.map_structure(lambda array: array[start : start + _BATCH], data)


def _squares(layer: keras.Layer, name: str, args: tuple, kwargs: Mapping[str, object]) -> Tensor | None:
    """Summed squares of what the weight ``name`` multiplies in this call, one per input channel, or None."""
    tensors = [t for t in keras.tree.flatten((args, kwargs)) if hasattr(t, "shape")]
    if not tensors:
        return None
    if isinstance(layer, layers.Embedding):  # row i is multiplied by how often token i occurs
        tokens = ops.reshape(ops.cast(tensors[0], "int32"), (-1,))
        return ops.cast(ops.bincount(tokens, minlength=layer.input_dim), "float32")
    value = tensors[1] if name == "recurrent_kernel" and len(tensors) > 1 else tensors[0]
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):  # the pointwise kernel comes second
        value = ops.depthwise_conv(
            value, layer.depthwise_kernel, layer.strides, layer.padding, layer.data_format, layer.dilation_rate
        )
    value = ops.cast(value, "float32")
    if isinstance(layer, layers.EinsumDense):
        letters, kernel = layer.equation.replace(" ", "").split("->")[0].split(",")
        kept = [letter for letter in kernel if letter in letters]
        return ops.einsum(f"{letters},{letters}->{''.join(kept)}", value, value)
    channel = 1 if getattr(layer, "data_format", None) == "channels_first" else len(value.shape) - 1
    return ops.sum(ops.square(value), axis=[axis for axis in range(len(value.shape)) if axis != channel])
