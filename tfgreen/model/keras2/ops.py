"""TensorFlow ops that Keras 2 kept as layers (``x + y``, ``tf.nn.relu(x)``, ``x[:, 0]``), as functions of Keras 3."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from keras import ops

from tfgreen.typing import Tensor


def _split(x: Tensor, num_or_size_splits: int | list[int], axis: int = 0) -> list[Tensor]:
    if isinstance(num_or_size_splits, int):
        return ops.split(x, num_or_size_splits, axis=axis)
    ends = [sum(num_or_size_splits[: i + 1]) for i in range(len(num_or_size_splits) - 1)]
    return ops.split(x, ends, axis=axis)


def _matmul(x: Tensor, b: Tensor, transpose_a: bool = False, transpose_b: bool = False) -> Tensor:
    return ops.matmul(ops.swapaxes(x, -1, -2) if transpose_a else x, ops.swapaxes(b, -1, -2) if transpose_b else b)


def _get_item(x: Tensor, slice_spec: object) -> Tensor:
    spec = slice_spec if isinstance(slice_spec, list) else [slice_spec]
    return x[tuple(_index(v) for v in spec)]


def _index(value: object) -> Any:
    if isinstance(value, dict):
        return ... if "class_name" in value else slice(value["start"], value["stop"], value["step"])
    return value


_BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "mod")
_UNARY = ("abs", "negative", "square", "sqrt", "rsqrt", "exp", "log", "round", "sin", "cos", "tanh", "sigmoid", "sign")
_ACTIVATION = ("relu", "relu6", "elu", "selu", "softplus", "softsign", "silu", "softmax", "log_softmax")
_SHAPE = ("cast", "expand_dims", "squeeze", "stack", "unstack")
_X1_X2 = {"x": "x1", "y": "x2"}

# TensorFlow symbol (without its module) -> function, and the arguments that have another name in keras.ops. Where the
# defaults of TensorFlow and Keras differ, a partial call or a function above. Any other op is an error.
OPS: dict[str, tuple[Callable[..., Any], dict[str, str]]] = {
    **{name: (getattr(ops, name), _X1_X2) for name in _BINARY},
    **{name: (getattr(ops, name), {}) for name in (*_UNARY, *_ACTIVATION, *_SHAPE)},
    **{f"reduce_{name}": (getattr(ops, name), {}) for name in ("mean", "sum", "max", "min", "prod")},
    "argmax": (partial(ops.argmax, axis=0), {}),
    "clip_by_value": (ops.clip, {"clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "concat": (ops.concatenate, {}),
    "floordiv": (ops.floor_divide, _X1_X2),
    "gelu": (partial(ops.gelu, approximate=False), {}),
    "getitem": (_get_item, {}),
    "leaky_relu": (ops.leaky_relu, {"alpha": "negative_slope"}),
    "matmul": (_matmul, {}),
    "neg": (ops.negative, {}),
    "pow": (ops.power, _X1_X2),
    "reshape": (ops.reshape, {"shape": "newshape"}),
    "split": (_split, {}),
    "swish": (ops.silu, {}),
    "tile": (ops.tile, {"multiples": "repeats"}),
    "transpose": (ops.transpose, {"perm": "axes"}),
    "truediv": (ops.divide, _X1_X2),
}
