"""Raw operations that compute: element by element, and along axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from tfgreen.surgery.channel_labels import Axes
from tfgreen.surgery.rules.common import Rules, axes_named, entering_axes, given_to, keep_along
from tfgreen.surgery.trace import Call

if TYPE_CHECKING:
    from tfgreen.surgery.channel_analysis import ChannelAnalysis

RULES = Rules()


@RULES.operation(
    "Abs Absolute Add Angle Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Cast Cbrt Ceil Celu Clip "
    "ConvertToTensor Copy Cos Cosh Divide DivideNoNan Elu Equal Erf Erfinv Exp Exp2 Expm1 Floor FloorDivide Gelu "
    "Greater GreaterEqual HardShrink HardSigmoid HardSilu HardTanh Identity Isfinite Isinf Isnan LeakyRelu Less "
    "LessEqual Log Log10 Log1p Log2 LogSigmoid Logaddexp LogicalAnd LogicalNot LogicalOr LogicalXor Maximum "
    "Minimum Mish Mod Multiply NanToNum Negative NotEqual OnesLike Power Reciprocal Relu Relu6 Round Rsqrt Selu "
    "Sigmoid Sign Silu Sin Sinh SoftShrink Softplus Softsign SparsePlus SparseSigmoid Sqrt Square Squareplus "
    "StopGradient Subtract Tan Tanh TanhShrink Threshold TrueDivide Where ZerosLike "
)
def _elementwise(a: ChannelAnalysis, call: Call) -> list[Axes]:
    result = a.merge([(a.read(value), tuple(value.shape)) for value in given_to(call)], call)
    if not _keeps_zero(call):
        a.mark_nonzero(result)
    return [result]


def _keeps_zero(call: Call) -> bool:
    """Whether zeros in the place of all tensors and weights become zeros."""
    operation: Any = call.operation

    def zero(value: Any) -> Any:
        is_read = isinstance(value, (keras.KerasTensor, keras.Variable))
        return keras.ops.zeros((1,) * len(value.shape), value.dtype) if is_read else value

    args, kwargs = keras.tree.map_structure(zero, (call.args, dict(call.kwargs)))
    with np.errstate(all="ignore"):
        return not np.any(np.nan_to_num(np.asarray(operation.call(*args, **kwargs)), nan=1))


@RULES.operation("Mean Sum Max Min Amax Amin Prod Std Var Any All Argmax Argmin Logsumexp CountNonzero Median Norm")
def _reduction(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = entering_axes(a, call)
    over = axes_named(getattr(operation, "axis", None), len(x))
    kept = keep_along(a, x, over, f"{call} is taken over them")
    return [kept if getattr(operation, "keepdims", False) else tuple(kept[i] for i in range(len(x)) if i not in over)]


@RULES.operation("Glu")
def _glu(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = list(entering_axes(a, call))
    axis = operation.axis % len(x)
    labels = x[axis]
    if labels is not None:  # the one half is multiplied by the other
        x[axis] = a.labels.unite_along(labels.reshape(2, -1), 1)
    return [tuple(x)]


@RULES.operation("Softmax LogSoftmax Sparsemax Normalize Cumsum Cumprod Sort Argsort Roll LayerNorm RMSNorm")
def _along_axis(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = entering_axes(a, call)
    over = axes_named(getattr(call.operation, "axis", None), len(x))
    kept = keep_along(a, x, over, f"{call} is computed along them")
    for value in keras.tree.flatten((call.args[1:], call.kwargs)):
        if hasattr(value, "shape") and len(value.shape):
            a.fix(x, f"{call} has a number for each")
    return [kept] * len(call.outputs)
