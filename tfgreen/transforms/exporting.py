"""Whether a model is being traced for the converter, which rounds some things by itself."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras import ops

_exporting: contextvars.ContextVar[bool] = contextvars.ContextVar("exporting", default=False)


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """While a model is traced for the converter: what LiteRT's kernels do by themselves is then left out."""
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


def is_exporting() -> bool:
    """Whether :func:`exporting` is in effect in this thread."""
    return _exporting.get()


# TensorFlow's operations whose output LiteRT gives the range of their input.
_SAME_RANGE = frozenset(
    "AvgPool ExpandDims GatherV2 Identity Max MaxPool MirrorPad Pad PadV2 Reshape ResizeBilinear ResizeNearestNeighbor "
    "ReverseV2 Slice Split SplitV Squeeze StridedSlice Tile Transpose Unpack".split()
)
_AVERAGES, _FUSED = frozenset({"AvgPool", "ResizeBilinear"}), frozenset({"Relu", "Relu6"})


def source_of(x: Any) -> Any:
    """The tensor of the graph that is being traced whose range LiteRT gives to another."""
    while x.op.type in _SAME_RANGE:
        x = _taken_in(x)
    return x


def _taken_in(x: Any) -> Any:
    """The tensor that the operation which makes a tensor takes in, besides sizes and positions."""
    return next(tensor for tensor in x.op.inputs if tensor.dtype == x.dtype)


def rounding_of(x: Any) -> Any | None:
    """The operation that gives a tensor of the graph that is being traced its range, if it has one by itself."""
    operation = source_of(x).op
    return operation if operation.type.startswith("FakeQuant") else None


def with_ranges_of_averages(structure: Any) -> Any:
    """The tensors of a structure, those that are averages rounded to the range in which they were averaged.

    That changes no number: an average keeps the range of what it takes in. The converter would give both the range of
    the ReLU or clip that takes the average, and so clip what is yet to be averaged.
    """

    def visit(x: Any) -> Any:
        source, averages = x, False
        while tf.is_symbolic_tensor(source) and source.op.type in _SAME_RANGE | _FUSED:
            averages = averages or source.op.type in _AVERAGES
            source = _taken_in(source)
        if not averages or source.op.type != "FakeQuantWithMinMaxVars":
            return x
        lower, upper = source.op.inputs[1:]
        return tf.quantization.fake_quant_with_min_max_vars(x, lower, upper, source.op.get_attr("num_bits"))

    return keras.tree.map_structure(visit, structure)


def isolated(structure: Any) -> Any:
    """The float tensors of a structure, each by way of float64: no range is handed on from before to after it.

    The converter gives what it can the range of what came before: a float layer between integers would begin with a
    mean in integers. The casts themselves are dropped from the file, see :mod:`tfgreen.deploy.tflite.rewrites`.
    """

    def detour(x: Any) -> Any:
        is_float = ops.is_tensor(x) and keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
        return ops.cast(ops.cast(x, "float64"), x.dtype) if is_float else x

    return keras.tree.map_structure(detour, structure)
