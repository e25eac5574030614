"""Audit: which operators compute each Keras layer in a file, and in which dtypes."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import ClassVar

from ai_edge_litert.schema_py_generated import ModelT, OperatorT

from tfgreen.deploy.tflite.contents import computes_in_float
from tfgreen.deploy.tflite.flatbuffer import dtype_name, operator_name, text_of
from tfgreen.tables import RowResult, TableResult


@dataclasses.dataclass(frozen=True)
class OperatorStatus(RowResult):
    """One operator of the main graph of a file.

    Attributes:
        operator: ``"CONV_2D"``, ...
        layers: Paths of the Keras layers that it computes, in order; its output is that of the last. Empty for one that
            no layer asked for, and in a file that tfgreen did not write.
        inputs: Dtypes of its inputs, weights included.
        outputs: Dtypes of its outputs.
        tensor: Name of its first output.
        in_float: Whether it computes in float32.
    """

    operator: str
    layers: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensor: str
    in_float: bool

    @property
    def where(self) -> str:
        """Its layers, or else its tensor in parentheses."""
        return " + ".join(self.layers) or f"({self.tensor})"


@dataclasses.dataclass(frozen=True, repr=False)
class Audit(TableResult):
    """The operators of a file in the order in which they run, ``lite.audit``; prints as a table."""

    operators: tuple[OperatorStatus, ...]

    _headings: ClassVar[tuple[str, ...]] = ("operator", "dtypes", "layers")
    _left = -1

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Paths of the layers of which an operator computes in float32."""
        return tuple(dict.fromkeys(layer for row in self.operators if row.in_float for layer in row.layers))

    def operator_of(self, error: str) -> OperatorStatus | None:
        """The operator that LiteRT speaks of in an error; None where it names none, or one of a delegate.

        Of operators within others, which a loop runs, the outermost comes last.
        """
        found = {int(number): name for number, name in re.findall(r"Node number (\d+) \((\w+)", error)}
        rows = [self.operators[n] for n in found if n < len(self.operators) and self.operators[n].operator == found[n]]
        return rows[-1] if rows else None

    def _headline(self) -> str:
        return f"{len(self.operators)} operators, {sum(row.in_float for row in self.operators)} in float32"

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (row.operator, f"{', '.join(row.inputs)} -> {', '.join(row.outputs)}", row.where) for row in self.operators
        ]


def audit_operators(model: ModelT, layers: Sequence[Sequence[str]]) -> Audit:
    """Read the operators of the main graph of a parsed file; ``layers`` names those of each, if the file knows them."""
    graph = model.subgraphs[0]

    def status(operator: OperatorT, of_layers: Sequence[str]) -> OperatorStatus:
        inputs, outputs = ([graph.tensors[i] for i in side if i >= 0] for side in (operator.inputs, operator.outputs))
        return OperatorStatus(
            operator_name(model, operator),
            tuple(of_layers),
            tuple(map(dtype_name, inputs)),
            tuple(map(dtype_name, outputs)),
            text_of(outputs[0].name) if outputs else "",
            computes_in_float(model, graph, operator),
        )

    return Audit(tuple(map(status, graph.operators, itertools.chain(layers, itertools.repeat(())))))
