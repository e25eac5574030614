"""The work of a Keras model: multiply-accumulates and traffic of each layer, as Keras runs it."""

from __future__ import annotations

import keras
import numpy as np

from tfgreen.energy.devices.work import LayerWork, ModelWork
from tfgreen.errors import invalid_state
from tfgreen.model.call_spec import read_call_spec, symbolic_inputs
from tfgreen.model.cost import profiled_layers
from tfgreen.model.layer_calls import Call, trace_calls
from tfgreen.model.macs import count_macs
from tfgreen.model.paths import check_built_model, own_weights, weights_by_path
from tfgreen.typing import Shape


def keras_work(model: keras.Model) -> ModelWork:
    """The work of a Keras model on one sample, layer by layer as Keras runs them.

    Raises:
        TypeError, ValueError: As :func:`tfgreen.profile`; or the model leaves a size open, or a layer's
            multiply-accumulates cannot be counted.
    """
    check_built_model(model)
    spec = read_call_spec(model)
    for item in spec.inputs:
        if None in item.shape:
            raise invalid_state(
                f"input '{item.name}' has the shape {(spec.batch, *item.shape)}: what one inference costs depends on "
                "the sizes that it leaves open.",
                "Give every keras.Input a full shape.",
            )
    batch = spec.batch or 1
    args, kwargs = keras.tree.map_structure(
        lambda x: keras.KerasTensor((batch, *x.shape[1:]), x.dtype, name=x.name), symbolic_inputs(model)
    )
    calls = trace_calls(model, *args, **kwargs)
    counts, (by_layer, leaves) = count_macs(calls, batch), _outermost(calls)
    found = []
    for path, layer in profiled_layers(model):
        macs, reason = counts.get(id(layer), (0, ""))
        if macs is None:
            raise invalid_state(
                f"layer '{path}' ({type(layer).__name__}): its multiply-accumulates are not known, {reason}.",
                "Convert the model and estimate the file: tg.estimate_energy(tg.convert(model)).",
            )
        if (macs or id(layer) in leaves) and not isinstance(layer, _NO_WORK):
            made = by_layer.get(id(layer), [])
            found.append(_layer_work(path, layer, macs * batch, made, id(layer) in leaves))
    notes = ["counted layer by layer as Keras runs them; a .tflite file has fewer operators, and other dtypes"]
    shapes = {item.name: (batch, *item.shape) for item in spec.inputs}
    return ModelWork(model.name, shapes, tuple(found), tuple(notes))


def _outermost(calls: list[Call]) -> tuple[dict[int, list[Call]], set[int]]:
    """The calls of each layer by its id, and those that call no others, or hold a cell: memory is what they pass on."""
    found, leaves = dict[int, list[Call]](), set[int]()
    skip_below: int | None = None
    for number, call in enumerate(calls):
        if skip_below is not None and call.depth > skip_below:
            continue
        whole = isinstance(call.layer, (keras.layers.RNN, keras.layers.TimeDistributed))
        skip_below = call.depth if whole else None
        after = calls[number + 1] if number + 1 < len(calls) else None
        found.setdefault(id(call.layer), []).append(call)
        if whole or after is None or after.depth <= call.depth:
            leaves.add(id(call.layer))
    return found, leaves


def _layer_work(path: str, layer: keras.Layer, macs: int, calls: list[Call], leaf: bool) -> LayerWork:
    dtype, itemsize = layer.compute_dtype, np.dtype("float16" if "16" in layer.compute_dtype else "float32").itemsize
    whole = isinstance(layer, (keras.layers.RNN, keras.layers.TimeDistributed))
    variables = weights_by_path(layer) if whole else own_weights(layer)
    weights = {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}
    size = sum(array.size for array in weights.values())
    kernels = [array for name, array in weights.items() if name.endswith("kernel")]
    kernels = kernels or [array for array in weights.values() if array.ndim > 1]  # of a class of the user's
    multiplied = sum(array.size for array in kernels)
    zeros = sum(int((array == 0).sum()) for array in kernels)
    looked_up = isinstance(layer, keras.layers.Embedding)  # only some rows are read
    operator = _OPERATORS.get(type(layer).__name__, type(layer).__name__)
    channels = calls[0].output[-1] or 0 if macs and leaf and calls[0].output else 0
    if operator == "FULLY_CONNECTED" and any(_size(call.output) > channels for call in calls):
        operator = "CONV_2D"
    passed, results, moved, products = 0, 0, 0, 0
    for call in calls:
        operations = [op for op in call.operations if op.type in _PRODUCTS]
        made = sum(_size(tensor.shape) for op in operations for tensor in op.outputs)
        moved += made + sum(_size(tensor.shape) for op in operations for tensor in op.inputs) - multiplied
        products += made
        if leaf:
            results += _size(call.output)
            passed += sum(map(_size, call.inputs)) + _size(call.output)
    return LayerWork(
        path,
        operator,
        dtype,
        macs,
        max(results, products),
        (results if looked_up else size * max(len(calls), 1)) * itemsize,
        max(passed, moved) * itemsize,
        channels,
        zero_share=zeros / multiplied if multiplied else 0.0,
    )


# Their factors and results are moved too where a layer multiplies results with results, as attention does.
_PRODUCTS = ("MatMul", "BatchMatMulV2", "Einsum")


def _size(shape: Shape) -> int:
    return int(np.prod([dim or 1 for dim in shape]))


_NO_WORK = (
    keras.layers.InputLayer, keras.layers.Flatten, keras.layers.Reshape, keras.layers.Dropout, keras.layers.Identity,
)

# What LiteRT calls the operator of a Keras layer, where a profile knows a share for it.
_OPERATORS = {
    "Dense": "FULLY_CONNECTED",
    "EinsumDense": "FULLY_CONNECTED",
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), "CONV_2D"),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), "DEPTHWISE_CONV_2D"),
}
