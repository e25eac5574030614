"""Audit: which operators compute each Keras layer in a file, and in which dtypes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tfgreen.deploy.tflite.contents import computes_in_float
from tfgreen.deploy.tflite.flatbuffer import dtype_name, operator_name, text_of


@dataclasses.dataclass(frozen=True)
class OperatorStatus:
    """One operator of the main graph.

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


@dataclasses.dataclass(frozen=True)
class Audit:
    """The operators in the order in which they run; prints as a table."""

    operators: tuple[OperatorStatus, ...]

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Paths of the layers of which an operator computes in float32."""
        found = [layer for row in self.operators if row.in_float for layer in row.layers]
        return tuple(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {"operators": [dataclasses.asdict(row) for row in self.operators]}

    def __str__(self) -> str:
        rows = [("operator", "dtypes", "layers")]
        for row in self.operators:
            dtypes = f"{', '.join(row.inputs)} -> {', '.join(row.outputs)}"
            rows.append((row.operator, dtypes, " + ".join(row.layers) or f"({row.tensor})"))
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(f"{a.ljust(widths[0])}  {b.ljust(widths[1])}  {c}" for a, b, c in rows)


def audit_operators(model: Any, layers: Sequence[Sequence[str]]) -> Audit:
    """Read the operators of the main graph of a parsed file, given the layers of each."""
    graph = model.subgraphs[0]
    rows = []
    for index, operator in enumerate(graph.operators):
        made = [graph.tensors[i] for i in operator.outputs if i >= 0]
        rows.append(
            OperatorStatus(
                operator_name(model, operator),
                tuple(layers[index]) if index < len(layers) else (),
                tuple(dtype_name(graph.tensors[i]) for i in operator.inputs if i >= 0),
                tuple(dtype_name(tensor) for tensor in made),
                text_of(made[0].name) if made else "",
                computes_in_float(model, graph, operator),
            )
        )
    return Audit(tuple(rows))
