"""Which Keras layers each operator of a converted file computes, read from the names of its tensors.

A layer call is traced in a scope of its own, ``call.<number>``. The converter puts semicolons between the names of what
it fuses: ``net/relu_1/call.2/Relu;net/conv_1/call.0/convolution``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ai_edge_litert.schema_py_generated import ModelT, TensorT

from tfgreen.deploy.tflite.flatbuffer import operator_name, text_of

_ROUNDING = re.compile(r"/FakeQuantWithMinMaxVars(PerChannel)?(_\d+)?$")  # of what else a tensor is, in the same scope
_CALL = re.compile(r"(?:^|/)call\.(\d+)/")


def layers_of_operators(model: ModelT, calls: Sequence[str], output_calls: Sequence[int | None]) -> list[list[str]]:
    """The layers that each operator of the main subgraph computes, in the order of their calls.

    A QUANTIZE at an input has none. ``calls`` are the paths of the layers by number of the call, ``output_calls`` the
    numbers of the calls that return the outputs, ``output_0`` first, or None where unknown.
    """
    graph = model.subgraphs[0]
    outputs = dict(zip([int(i) for i in graph.outputs], output_calls))
    found = []
    for operator in reversed(graph.operators):
        numbers = {number for i in operator.outputs if i >= 0 for number in _numbers(graph.tensors[i])}
        # The converter gives outputs names of its own; and what stands before a DEQUANTIZE at the end is one as well.
        call = next((outputs[i] for i in operator.outputs if outputs.get(int(i)) is not None), None)
        if call is not None and not numbers:
            if operator_name(model, operator) in ("QUANTIZE", "DEQUANTIZE"):
                outputs[int(operator.inputs[0])] = call
            else:
                numbers = {call}
        found.append([calls[number] for number in sorted(numbers)])
    return found[::-1]


def rename_tensors(model: ModelT, calls: Sequence[str]) -> None:
    """Name tensors after the paths of their layers: ``relu/Relu``; where that is taken ``relu/Relu;norm/mul_1``, or
    else ``relu/Relu;2``.

    Names are the largest part of a file after its weights. Those of what the converter finds equal, such as the steps
    of a recurrent layer, list all of it, and grow with the square of the steps.
    """
    for graph in model.subgraphs:
        parts = [[_renamed(part, calls) for part in text_of(tensor.name).split(";")] for tensor in graph.tensors]
        counts = Counter(name for names in parts for name in {names[0], ";".join(names[:2])})
        for number, (tensor, names) in enumerate(zip(graph.tensors, parts)):
            options = (names[0], ";".join(names[:2]))
            tensor.name = next((name for name in options if counts[name] == 1), f"{names[0]};{number}").encode()


def _renamed(part: str, calls: Sequence[str]) -> str:
    part = _ROUNDING.sub("", part)
    found = _CALL.split(part)
    if len(found) == 1:
        return part
    path, rest = calls[int(found[-2])], found[-1]
    first, _, further = rest.partition("/")
    if re.fullmatch(rf"{re.escape(path.rpartition('/')[2])}(_\d+)?", first):  # a layer in a wrapper of its name
        rest = further
    return f"{path}/{rest}" if rest else path


def _numbers(tensor: TensorT) -> set[int]:
    parts = [_CALL.findall(part) for part in text_of(tensor.name).split(";")]
    return {int(found[-1]) for found in parts if found}
