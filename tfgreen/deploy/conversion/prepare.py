"""Copies of a model that the converter can take, where it cannot take the model itself."""

from __future__ import annotations

from typing import Any

_HALF = ("float16", "bfloat16")
_BYTES_PER_OUTPUT = 12  # of a Dense layer: the scales of its kernel and bias, and its part of the zero points
_COSTLY = 0.02


def half_precision_layers(model: Any) -> list[str]:
    """Paths of the layers that compute in float16 or bfloat16 (``mixed_float16`` training)."""
    from tfgreen.model.paths import walk

    return [path for path, layer in walk(model) if layer.compute_dtype in _HALF]


def looping_layers(model: Any) -> list[str]:
    """Paths of the recurrent layers that run as a loop."""
    import keras

    from tfgreen.model.paths import walk

    return [path for path, layer in walk(model) if isinstance(layer, keras.layers.RNN) and not layer.unroll]


def image_layers(model: Any) -> set[str]:
    """Paths of Keras's layers for images, of which random augmentation does nothing in inference."""
    from tfgreen.model.paths import walk

    return {path for path, layer in walk(model) if hasattr(layer, "get_random_transformation")}


def has_costly_scales(model: Any) -> bool:
    """Whether a scale for each output of the Dense layers would take more than 2 % of an int8 file, and 4 kB.

    TensorFlow's converter gives each output a scale and zero point for the kernel and for the bias. That pays where a
    kernel has many inputs. A network of many small ones, such as MLPerf Tiny's autoencoder, grows by more than its
    error shrinks.
    """
    import keras

    from tfgreen.model.paths import walk

    dense = [layer for _, layer in walk(model) if isinstance(layer, keras.layers.Dense)]
    scales = sum(_BYTES_PER_OUTPUT * layer.units for layer in dense)
    return scales > max(4096, model.count_params() * _COSTLY)


def in_float32(model: Any) -> Any:
    """Return a copy that computes in float32, which is what the weights of a ``mixed_float16`` model are stored in.

    LiteRT has no float16 kernels on the CPU, and the converter refuses them.

    Raises:
        ValueError: A layer cannot be copied from its ``get_config()``.
    """
    import keras

    from tfgreen.model.paths import walk
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

    from tfgreen.model.paths import walk
    from tfgreen.model.rebuild import rebuild

    def replace(path: str, copy: Any) -> Any:
        for layer in (copy, *(sub for _, sub in walk(copy))):
            if isinstance(layer, keras.layers.RNN):
                layer.unroll = True
        return copy

    return rebuild(model, replace)


def averaging_apart(model: Any) -> Any:
    """Return a copy whose average poolings are the operators that lose least, or the model itself where they are.

    LiteRT's average pooling keeps the scale of its input. The mean of a whole map stays far below its largest value,
    and rounded to that scale it loses more than any other layer of ResNet-8 does. A mean has a scale of its own.
    Adaptive pooling joins two poolings, and the converter gives what comes in the smaller range of what goes out; where
    its windows are all of one size, it is one plain pooling.

    Raises:
        ValueError: A layer cannot be copied from its ``get_config()``.
    """
    from tfgreen.model.graph import LayerGraph
    from tfgreen.model.paths import replaceable_layers
    from tfgreen.model.rebuild import rebuild
    from tfgreen.quantization.op_classes import ADAPTIVE_AVERAGE_POOLING, AVERAGE_POOLING
    from tfgreen.transforms.compressed import compressed_layers

    poolings = (*AVERAGE_POOLING, *ADAPTIVE_AVERAGE_POOLING)
    paths = {id(layer): path for path, layer in replaceable_layers(model) if type(layer) in poolings}
    if not paths or any(layer.activations is not None for _, layer in compressed_layers(model)):
        return model  # one with trained ranges was trained with the scale of the input
    windows: dict[str, set[tuple[int, ...] | None]] = {}
    for node in LayerGraph(model).nodes:
        if id(node.layer) in paths:
            window = _windows(node.layer, node.input_shapes[0], node.output_shapes[0])
            windows.setdefault(paths[id(node.layer)], set()).add(window)
    found = {path: kinds.pop() for path, kinds in windows.items() if len(kinds) == 1}

    def replace(path: str, copy: Any) -> Any:
        window = found.get(path)
        return copy if window is None else _pooling(copy, window)

    return rebuild(model, replace) if any(window is not None for window in found.values()) else model


def _windows(layer: Any, came: tuple[int | None, ...], made: tuple[int | None, ...]) -> tuple[int, ...] | None:
    """The sizes of the windows with which one plain average pooling does as a layer; () for the whole map; None to
    leave the layer as it is."""
    from tfgreen.quantization.op_classes import AVERAGE_POOLING, averages_whole

    if isinstance(layer, AVERAGE_POOLING):
        return () if averages_whole(layer, came, made) else None
    axes = slice(1, -1) if layer.data_format == "channels_last" else slice(2, None)
    sizes = list(zip(came[axes], made[axes]))
    if any(whole is None or part is None or whole % part for whole, part in sizes):
        return None
    return tuple(whole // part for whole, part in sizes if whole is not None and part is not None)


def _pooling(layer: Any, window: tuple[int, ...]) -> Any:
    import keras

    one = type(layer).__name__.endswith("1D")
    same = {"data_format": layer.data_format, "name": layer.name, "dtype": layer.dtype_policy}
    if not window:
        mean = keras.layers.GlobalAveragePooling1D if one else keras.layers.GlobalAveragePooling2D
        return mean(keepdims=True, **same)
    return (keras.layers.AveragePooling1D if one else keras.layers.AveragePooling2D)(window, **same)
