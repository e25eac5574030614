"""Copies of a model that the converter can take, where it cannot take the model itself."""

from __future__ import annotations

from typing import Any

_HALF = ("float16", "bfloat16")


def half_precision_layers(model: Any) -> list[str]:
    """Paths of the layers that compute in float16 or bfloat16 (``mixed_float16`` training)."""
    from tfgreen.model.graph import walk

    return [path for path, layer in walk(model) if layer.compute_dtype in _HALF]


def looping_layers(model: Any) -> list[str]:
    """Paths of the recurrent layers that run as a loop."""
    import keras

    from tfgreen.model.graph import walk

    return [path for path, layer in walk(model) if isinstance(layer, keras.layers.RNN) and not layer.unroll]


def image_layers(model: Any) -> set[str]:
    """Paths of Keras's layers for images, of which random augmentation does nothing in inference."""
    from tfgreen.model.graph import walk

    return {path for path, layer in walk(model) if hasattr(layer, "get_random_transformation")}


def in_float32(model: Any) -> Any:
    """Return a copy that computes in float32, which is what the weights of a ``mixed_float16`` model are stored in.

    LiteRT has no float16 kernels on the CPU, and the converter refuses them.

    Raises:
        ValueError: A layer cannot be copied from its ``get_config()``.
    """
    import keras

    from tfgreen.model.graph import walk
    from tfgreen.model.rebuild import rebuild

    def replace(path: str, copy: Any) -> Any:
        for layer in (copy, *(sub for _, sub in walk(copy))):
            if layer.compute_dtype in _HALF:
                layer.dtype_policy = keras.DTypePolicy("float32")
        return copy

    return rebuild(model, replace)


def unrolled(model: Any) -> Any:
    """Return a copy whose recurrent layers are written out step by step.

    TensorFlow 2.21's int8 calibration crashes the process on a loop over a static batch, and fails on any other.

    Raises:
        ValueError: A layer cannot be copied from its ``get_config()``, or its number of steps is not fixed.
    """
    import keras

    from tfgreen.model.graph import walk
    from tfgreen.model.rebuild import rebuild

    def replace(path: str, copy: Any) -> Any:
        for layer in (copy, *(sub for _, sub in walk(copy))):
            if isinstance(layer, keras.layers.RNN):
                layer.unroll = True
        return copy

    return rebuild(model, replace)


def averaging_apart(model: Any) -> Any:
    """Return a copy that averages whole feature maps as a mean, or the model itself where it has no such pooling.

    LiteRT's average pooling keeps the scale of its input. The mean of a whole map stays far below its largest value,
    and rounded to that scale it loses more than any other layer of ResNet-8 does. A mean has a scale of its own.

    Raises:
        ValueError: A layer cannot be copied from its ``get_config()``.
    """
    import keras

    from tfgreen.model.graph import replaceable_layers
    from tfgreen.model.rebuild import rebuild
    from tfgreen.model.trace import symbolic_inputs, trace_calls
    from tfgreen.transforms.kinds import averages_whole
    from tfgreen.transforms.layers import compressed_layers

    means = {
        keras.layers.AveragePooling1D: keras.layers.GlobalAveragePooling1D,
        keras.layers.AveragePooling2D: keras.layers.GlobalAveragePooling2D,
    }
    found = {id(layer): path for path, layer in replaceable_layers(model) if type(layer) in means}
    if not found or any(layer.activations is not None for _, layer in compressed_layers(model)):
        return model  # one with trained ranges was trained with the scale of the input
    inputs, named = symbolic_inputs(model)
    for call in trace_calls(model, *inputs, **named):
        if id(call.layer) in found and not averages_whole(call.layer, call.inputs[0], call.output):
            del found[id(call.layer)]

    def replace(path: str, copy: Any) -> Any:
        if path not in found.values():
            return copy
        return means[type(copy)](copy.data_format, keepdims=True, name=copy.name, dtype=copy.dtype_policy)

    return rebuild(model, replace) if found else model
