"""Whether XNNPACK's sparse kernels can run a file whose weights are stored sparse.

They compute channels first. So a whole cluster of operators must be able to: from convolutions that change the layout
(3x3, stride 2, on an image) to an operator that ends it, and all that lies between. No processor of the x86 family with
AVX has them.

Source: ``xnn_check_nchw_compatibility`` and ``xnn_subgraph_rewrite_for_nchw`` in XNNPACK's ``src/subgraph.c``;
:class:`tfgreen.PruneForLatencyOnXNNPack` applies the same rules to a Keras model.
"""

from __future__ import annotations

import dataclasses
import functools
import platform

import numpy as np
from ai_edge_litert.schema_py_generated import OperatorT, Padding

from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.cut_operator import unpacking_operators
from tfgreen.deploy.tflite.flatbuffer import constant, dtype_name, operator_name, shape_of

NO_KERNEL_ON_X86 = "XNNPACK has no sparse kernels on x86 with AVX, so the file is no faster there than a dense one."

_ENDS = ("MEAN", "SUM", "DEPTH_TO_SPACE")
_TWO_INPUTS = ("ADD", "MUL")
_ONE_INPUT = (
    "ABS CEIL COS ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC NEG RELU RELU6 RELU_N1_TO_1 ROUND RSQRT SIN "
    "SQRT SQUARE TANH MEAN SUM RESIZE_BILINEAR"
).split()
_START = "a CONV_2D of 3 channels, kernel 3x3, stride 2 and 1 zero around, at which sparse inference starts"


def stores_sparse(lite: LiteRTModel) -> bool:
    """Whether weights of a file are stored sparse."""
    return any(tensor.sparsity is not None for graph in lite.parsed.subgraphs for tensor in graph.tensors)


def runs_on_x86() -> bool:
    """Whether this process runs on a processor of the x86 family."""
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686", "x86")


def refused_integers(lite: LiteRTModel) -> str:
    """The first operator whose sparse integer kernel XNNPACK refuses: a convolution takes one only among integers."""
    graph = lite.parsed.subgraphs[0]
    pairs = list(zip(lite.audit.operators, graph.operators))
    kernels = {int(op.outputs[0]) for row, op in pairs if (row.operator, row.outputs) == ("DENSIFY", ("int8",))}
    for row, operator in pairs:
        if not kernels.isdisjoint(map(int, operator.inputs)) and (row.operator == "FULLY_CONNECTED" or row.in_float):
            return f"{row.operator} of {row.where}"
    return ""


def dense_because(lite: LiteRTModel) -> str:
    """The first thing by which XNNPACK runs a file dense wherever it has sparse kernels; empty where it does not."""
    graph = _Graph(lite)
    ends = [number for number, name in enumerate(graph.names) if name in _ENDS and graph.rank(number) == 4]
    if not ends:
        return f"there is no {' or '.join(_ENDS)} of a 4-D tensor, at which sparse inference ends"
    found = [graph.objections(end) for end in ends]
    if all(found):
        number = min(found[-1])
        own, *after = lite.audit.operators[number:]
        named = next((row.where for row in after if row.layers and not own.layers), "")  # groups have no names
        where = f"{own.where}, before {named}" if named else own.where
        return f"{own.operator} of {where}: {found[-1][number]}"
    zeros = graph.zeros()
    return "" if zeros > 2 / 3 else f"{zeros:.0%} of its 1x1 convolutions and dense layers are 0, not over 2/3"


@dataclasses.dataclass(frozen=True)
class _Graph:
    """The operators of the main subgraph by number, and what XNNPACK asks of them."""

    lite: LiteRTModel

    @functools.cached_property
    def operators(self) -> list[OperatorT]:
        return list(self.lite.parsed.subgraphs[0].operators)

    @functools.cached_property
    def names(self) -> list[str]:
        return [operator_name(self.lite.parsed, operator) for operator in self.operators]

    @functools.cached_property
    def _made_by(self) -> dict[int, int]:
        return {int(place): number for number, op in enumerate(self.operators) for place in op.outputs}

    @functools.cached_property
    def _weights(self) -> set[int]:
        """The places of tensors that are constant, or unpacked from such."""
        graph = self.lite.parsed.subgraphs[0]
        unpacked = {int(place) for operator in unpacking_operators(self.lite.parsed) for place in operator.outputs}
        return unpacked.union(i for i, t in enumerate(graph.tensors) if constant(self.lite.parsed, t) is not None)

    def _shape(self, place: int) -> tuple[int, ...]:
        return shape_of(self.lite.parsed.subgraphs[0].tensors[place])

    def _readers(self, place: int) -> list[int]:
        return [number for number, operator in enumerate(self.operators) if place in operator.inputs]

    def rank(self, number: int) -> int:
        """Of the first input."""
        return len(self._shape(int(self.operators[number].inputs[0])))

    def objections(self, end: int) -> dict[int, str]:
        """What stands against sparse inference in the operators up to one that ends it, by number."""
        cluster, waiting, found = {end}, [end], dict[int, str]()
        starts = set[int]()
        outputs = set(map(int, self.lite.parsed.subgraphs[0].outputs))
        while waiting:
            number = waiting.pop()
            for place in self._inputs(number):
                maker = self._made_by.get(place)
                if maker is None:
                    found[number] = f"expected before it {_START}"
                elif self._is_start(maker):
                    starts.add(maker)
                elif text := self._objection(maker):
                    found[maker] = text
                elif maker not in cluster:
                    cluster.add(maker)
                    waiting.append(maker)
        for number in cluster:
            for place in self._inputs(number):
                others = [other for other in self._readers(place) if other not in cluster and not self._fused(other)]
                if others or place in outputs:
                    text = "what it reads goes into the sparse part and elsewhere"
                    found.setdefault(min(others, default=number), text)
        return found

    def _inputs(self, number: int) -> list[int]:
        """The places of what an operator computes with, weights left out; those of a fused padding instead of it."""
        places = [int(place) for place in self.operators[number].inputs if place >= 0]
        values = [place for place in places if place not in self._weights]
        makers = [self._made_by.get(place) for place in values]
        fused = [None if maker is None or not self._fused(maker) else maker for maker in makers]
        pairs = zip(values, fused)
        return [place if maker is None else int(self.operators[maker].inputs[0]) for place, maker in pairs]

    def _fused(self, number: int) -> bool:
        """Whether XNNPACK makes a padding part of the convolution that takes it."""
        readers = self._readers(int(self.operators[number].outputs[0])) if self.names[number] == "PAD" else []
        return len(readers) == 1 and self.names[readers[0]] in ("CONV_2D", "DEPTHWISE_CONV_2D")

    def _kernel(self, number: int) -> np.ndarray | None:
        """The kernel of an operator, unpacked."""
        place = int(self.operators[number].inputs[1])
        while place in self._made_by and place in self._weights:
            place = int(self.operators[self._made_by[place]].inputs[0])
        return constant(self.lite.parsed, self.lite.parsed.subgraphs[0].tensors[place])

    def _window(self, number: int) -> tuple[tuple[int, ...], int, int, int | None]:
        """Kernel size, stride (0 where two differ), dilation and zeros around (None where sides differ)."""
        operator, size = self.operators[number], self._shape(int(self.operators[number].inputs[1]))[1:3]
        options = operator.builtinOptions
        stride = options.strideH if options.strideH == options.strideW else 0
        dilation = max(options.dilationHFactor, options.dilationWFactor)
        if options.padding == Padding.SAME:
            return size, stride, dilation, (size[0] - 1) // 2 if stride == 1 or size == (1, 1) else None
        maker = self._made_by.get(int(operator.inputs[0]))
        if maker is None or not self._fused(maker):
            return size, stride, dilation, 0
        zeros = constant(self.lite.parsed, self.lite.parsed.subgraphs[0].tensors[int(self.operators[maker].inputs[1])])
        sides = set() if zeros is None else set(zeros[1:3].ravel().tolist())
        return size, stride, dilation, sides.pop() if len(sides) == 1 else None

    def _is_start(self, number: int) -> bool:
        if self.names[number] != "CONV_2D" or not self._is_float(number):
            return False
        return self._shape(int(self.operators[number].inputs[1]))[-1] == 3 and self._window(number) == ((3, 3), 2, 1, 1)

    def _is_float(self, number: int) -> bool:
        tensors = self.lite.parsed.subgraphs[0].tensors
        places = [*self.operators[number].inputs[:2], *self.operators[number].outputs]
        return all(dtype_name(tensors[place]) in ("float32", "float16", "int32") for place in places)

    def _objection(self, number: int) -> str:
        """What was expected of an operator between start and end; empty where it runs channels first."""
        name, operator = self.names[number], self.operators[number]
        if not self._is_float(number):
            return "expected float32 or float16, not integers"
        if name == "FULLY_CONNECTED" or (name == "PAD" and self._fused(number)):
            return ""
        if name == "CONV_2D":
            same = self._shape(int(operator.inputs[0]))[-1] == self._shape(int(operator.inputs[1]))[-1]  # no groups
            fits = same and self._window(number) == ((1, 1), 1, 1, 0)
            return "" if fits else "expected kernel 1x1, stride 1, no groups"
        if name == "DEPTHWISE_CONV_2D":
            size, stride, dilation, zeros = self._window(number)
            fits = size in ((3, 3), (5, 5)) and stride in (1, 2) and dilation == 1 and zeros == size[0] // 2
            fits = fits and operator.builtinOptions.depthMultiplier == 1
            return "" if fits else "expected kernel 3x3 or 5x5, stride 1 or 2, as many zeros around on each side"
        ranks = {len(self._shape(int(place))) for place in operator.inputs[: 2 if name in _TWO_INPUTS else 1]}
        fits = name in (*_TWO_INPUTS, *_ONE_INPUT) and ranks == {4}
        return "" if fits else "it cannot compute channels first"

    def zeros(self) -> float:
        """The share of zeros in all 1x1 convolutions and fully connected operators together."""
        kernels = [
            self._kernel(number)
            for number, name in enumerate(self.names)
            if name == "FULLY_CONNECTED" or (name == "CONV_2D" and self._window(number)[0] == (1, 1))
        ]
        count = sum(kernel.size for kernel in kernels if kernel is not None)
        return sum(int((kernel == 0).sum()) for kernel in kernels if kernel is not None) / count if count else 0.0
