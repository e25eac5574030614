"""Raw operations that compute: element by element, along axes, products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from tfgreen.surgery.channel_labels import Axes, Axis
from tfgreen.surgery.rules.common import Rules, axes_named, entering_axes, keep_along, stop
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
    operands = []
    for value in keras.tree.flatten((call.args, call.kwargs)):
        if isinstance(value, keras.KerasTensor):
            operands.append((a.of(value), tuple(value.shape)))
        elif hasattr(value, "shape"):  # a constant or a variable: it keeps its size
            operands.append(((None,) * len(value.shape), tuple(value.shape)))
    return [a.merge(operands, call)]


@RULES.operation("Mean Sum Max Min Amax Amin Prod Std Var Any All Argmax Argmin Logsumexp CountNonzero Median Norm")
def _reduction(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    x = entering_axes(a, call)
    over = axes_named(getattr(operation, "axis", None), len(x))
    kept = keep_along(a, x, over, f"{call} is taken over them")
    return [kept if getattr(operation, "keepdims", False) else tuple(kept[i] for i in range(len(x)) if i not in over)]


@RULES.operation("Softmax LogSoftmax Sparsemax Normalize Cumsum Cumprod Sort Argsort Roll LayerNorm RMSNorm")
def _along_axis(a: ChannelAnalysis, call: Call) -> list[Axes]:
    x = entering_axes(a, call)
    over = axes_named(getattr(call.operation, "axis", None), len(x))
    kept = keep_along(a, x, over, f"{call} is computed along them")
    for value in keras.tree.flatten((call.args[1:], call.kwargs)):
        if hasattr(value, "shape") and len(value.shape):
            a.fix(x, f"{call} has a number for each")
    return [kept] * len(call.outputs)


@RULES.operation("Matmul")
def _matmul(a: ChannelAnalysis, call: Call) -> list[Axes]:
    if len(call.inputs) != 2 or any(len(tensor.shape) < 2 for tensor in call.inputs):
        return stop(a, call)
    one, other = map(a.of, call.inputs)
    a.labels.unite(one[-1], other[-2], f"{call} sums over them")
    shapes = [tuple(tensor.shape[:-2]) for tensor in call.inputs]
    batch = a.merge([(one[:-2], shapes[0]), (other[:-2], shapes[1])], call)
    return [(*batch, one[-2], other[-1])]


@RULES.operation("Einsum")
def _einsum(a: ChannelAnalysis, call: Call) -> list[Axes]:
    operation: Any = call.operation
    operands, arrow, result = operation.subscripts.replace(" ", "").partition("->")
    names = operands.split(",")
    if not arrow or "." in operands or len(call.inputs) != len(names):
        return stop(a, call)
    found: dict[str, Axis] = {}
    for letters, tensor in zip(names, call.inputs):
        for letter, labels in zip(letters, a.of(tensor), strict=True):
            if letter in found:
                if labels is not None or found[letter] is not None:
                    a.labels.unite(found[letter], labels, f"{call} sums over them")
            else:
                found[letter] = labels
    return [tuple(found[letter] for letter in result)]


@RULES.operation("DotProductAttention")
def _attention(a: ChannelAnalysis, call: Call) -> list[Axes]:
    query, key, value, *others = (a.of(tensor) for tensor in call.inputs)
    for axes in others:  # a mask or a bias
        a.fix(axes, f"{call} reads them")
    a.fix([query[1], key[1], value[1]], f"{call} attends to them as positions")
    if {query[2] is None, key[2] is None, value[2] is None} == {False}:
        if not len(query[2]) == len(key[2]) == len(value[2]) or others:  # type: ignore[arg-type]
            a.fix([query[2], key[2], value[2]], f"{call} shares heads among them")
        else:
            a.labels.unite(query[2], key[2], "")
            a.labels.unite(query[2], value[2], "")
    else:
        a.fix([query[2], key[2], value[2]], f"{call} takes as many heads of each")
    if call.kwargs.get("scale") is None and len(call.args) < 6:
        a.fix([query[3], key[3]], f"{call} scales by their number")
    elif query[3] is not None or key[3] is not None:
        a.labels.unite(query[3], key[3], f"{call} sums over them")
    return [(query[0], None, query[2], value[3])]
