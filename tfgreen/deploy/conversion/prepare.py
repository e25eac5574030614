"""Prepare a model for TensorFlow's converter: one copy in which layers that it cannot take, or takes badly, are others.

- ``mixed_float16`` becomes float32: LiteRT has no float16 kernels on the CPU, and the converter refuses them.
- Recurrent layers are unrolled for integers and for a dynamic batch: TensorFlow 2.21's int8 calibration crashes the
  process on a loop over a static batch, and fails on any other.
- Average poolings become the operators that lose least in integers. LiteRT's average pooling keeps the scale of its
  input. The mean of a whole map stays far below its largest value, and rounded to that scale it loses more than any
  other layer of ResNet-8 does; a mean has a scale of its own. Adaptive pooling concatenates two poolings, and the
  converter gives their inputs the smaller range of the output; with windows of one size, it is one plain pooling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import keras
from keras import ops

from tfgreen.deploy.conversion.record import Conversion
from tfgreen.model.graph import LayerGraph
from tfgreen.model.internals import is_container
from tfgreen.model.paths import walk
from tfgreen.model.rebuild import rebuild
from tfgreen.quantization.op_classes import ADAPTIVE_AVERAGE_POOLING, AVERAGE_POOLING, averages_whole_map
from tfgreen.transforms.compressed import Compressed
from tfgreen.typing import Shape, Tensor, Tensors

_HALF = ("float16", "bfloat16")


def prepare(conversion: Conversion) -> Conversion:
    """Copy the model where the converter needs another one."""
    model, config = conversion.model, conversion.config
    notes = list(conversion.notes)
    layers = dict(walk(model))
    half = [path for path, layer in layers.items() if layer.compute_dtype in _HALF]
    loops = [path for path, layer in layers.items() if isinstance(layer, keras.layers.RNN) and not layer.unroll]
    open_ended = [path for path in loops if _steps(layers[path]) is None]
    # Steps of an open number become the samples of a batch, see open_sizes.py.
    steps = {path: layer for path, layer in layers.items() if type(layer) is keras.layers.TimeDistributed}
    outer = tuple(f"{path}/" for path, layer in steps.items() if _steps(layer) is None)
    batched = config.dynamic_batch or any(path.startswith(outer) for path in loops)
    unrolls = bool(loops) and (config.integers or batched)
    if unrolls and open_ended and conversion.has_open_sizes:
        notes.append(f"Recurrent layers {open_ended} run in loops: their number of steps is not fixed.")
        unrolls = False
    windows = {} if conversion.samples is None else _pooling_windows(model, layers)

    def replace(path: str, copy: keras.Layer) -> keras.Layer:
        for layer in (copy, *(sub for _, sub in walk(copy))):
            if layer.compute_dtype in _HALF:
                layer.dtype_policy = keras.DTypePolicy("float32")
            if unrolls and isinstance(layer, keras.layers.RNN):
                layer.unroll = True
                if layer.zero_output_for_mask:
                    layer.zero_output_for_mask, layer.inner_loop = False, _zero_masked(layer)
        return _pooling(copy, windows[path]) if path in windows else copy

    model = rebuild(model, replace) if half or unrolls or windows else model
    if half:
        dtypes = sorted({layers[path].compute_dtype for path in half})
        notes.append(f"Computed in float32 instead of {' and '.join(dtypes)}: layers {half}.")
    if unrolls:
        reason = "integers need" if config.integers else "a dynamic batch needs"
        notes.append(f"Recurrent layers written out step by step, which {reason}: {loops}.")
    unrolled = {path: _steps(layers[path]) or 0 for path in loops} if unrolls else {}
    return dataclasses.replace(conversion, model=model, notes=tuple(notes), unrolled=unrolled)


def _zero_masked(layer: keras.layers.RNN) -> Callable[..., tuple[Tensor, Tensor, Tensors]]:
    """The steps of an unrolled layer with zeros as the output of masked ones. Keras zeroes others if the layer goes
    backwards: it forgets to turn the mask. Bidirectional layers that return sequences ask for zeros."""
    steps = layer.inner_loop

    def inner_loop(sequences: Tensor, initial_state: Tensors, mask: Tensor | None, training: bool = False) -> tuple:
        last, outputs, states = steps(sequences, initial_state, mask, training)
        if mask is not None and layer.return_sequences:
            mask = ops.flip(mask, 1) if layer.go_backwards else mask
            outputs = outputs * ops.cast(ops.reshape(mask, (-1, outputs.shape[1], 1)), outputs.dtype)
            last = outputs[:, -1]
        return last, outputs, states

    return inner_loop


def _steps(layer: keras.layers.RNN | keras.layers.TimeDistributed) -> int | None:
    """The number of steps that a layer was built for; None for any number."""
    shape = next(iter((layer.get_build_config() or {"": (None, 1)}).values()))
    return (next(iter(shape.values())) if isinstance(shape, dict) else shape)[1]


def _pooling_windows(model: keras.Model, layers: Mapping[str, keras.Layer]) -> dict[str, tuple[int, ...]]:
    """The average poolings to replace, by path, with the sizes of the windows of the plain one that does as they do; ()
    for the mean of the whole map.

    There are none in a model with trained ranges: it was trained with the scale of the input. A layer that is called on
    maps of several sizes is left out.
    """
    trained = any(isinstance(layer, Compressed) and layer.activations is not None for layer in layers.values())
    poolings = (*AVERAGE_POOLING, *ADAPTIVE_AVERAGE_POOLING)
    if trained or not is_container(model) or not any(type(layer) in poolings for layer in layers.values()):
        return {}
    found: dict[str, set[tuple[int, ...] | None]] = {}
    for node in LayerGraph(model).nodes:
        if type(node.layer) in poolings:
            found.setdefault(node.path, set()).add(_window(node.layer, node.input_shapes[0], node.output_shapes[0]))
    only = {path: windows.pop() for path, windows in found.items() if len(windows) == 1}
    return {path: window for path, window in only.items() if window is not None}


def _window(layer: keras.Layer, input_shape: Shape, output_shape: Shape) -> tuple[int, ...] | None:
    """See :func:`_pooling_windows`; None to leave the layer as it is."""
    if isinstance(layer, AVERAGE_POOLING):
        return () if averages_whole_map(layer, input_shape, output_shape) else None
    axes = slice(1, -1) if layer.data_format == "channels_last" else slice(2, None)
    sizes = list(zip(input_shape[axes], output_shape[axes]))
    if any(whole is None or part is None or whole % part for whole, part in sizes):
        return None
    return tuple(whole // part for whole, part in sizes if whole is not None and part is not None)


def _pooling(layer: keras.Layer, window: tuple[int, ...]) -> keras.Layer:
    one = type(layer).__name__.endswith("1D")
    same = {"data_format": layer.data_format, "name": layer.name, "dtype": layer.dtype_policy}
    if not window:
        mean = keras.layers.GlobalAveragePooling1D if one else keras.layers.GlobalAveragePooling2D
        return mean(keepdims=True, **same)
    return (keras.layers.AveragePooling1D if one else keras.layers.AveragePooling2D)(window, **same)
