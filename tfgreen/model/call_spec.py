"""Call spec: what a model is called with, by name, shape and dtype."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfgreen.model.internals import input_layers
from tfgreen.model.layer_calls import symbolic_inputs
from tfgreen.model.structure import Structure, leaf_names, name_leaves


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One input: its Keras name, its shape without the batch (``None`` for a dynamic dimension) and its dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class CallSpec:
    """How a model is called: the structure of its inputs by name, and each input in reading order."""

    structure: Structure
    inputs: tuple[InputSpec, ...]
    by_keyword: bool = False  # a subclassed model whose call() takes several arguments


def read_call_spec(model: Any) -> CallSpec:
    """Read from a built Keras model what it is called with.

    Raises:
        ValueError: A subclassed model does not know its input shape.
    """
    if getattr(model, "inputs", None):
        structure, layers = name_leaves(input_layers(model), lambda layer, _: layer.name)
        specs = zip(leaf_names(structure), layers)
        return CallSpec(structure, tuple(InputSpec(n, tuple(x.batch_shape[1:]), str(x.dtype)) for n, x in specs))
    inputs, named = symbolic_inputs(model)
    # A subclassed model records no dtypes. Layers that need integers (Embedding) cast for themselves.
    structure, found = name_leaves(named or inputs[0], lambda _, index: f"input_{index}")
    specs = zip(leaf_names(structure), found)
    tensors = tuple(InputSpec(name, tuple(tensor.shape[1:]), str(tensor.dtype)) for name, tensor in specs)
    return CallSpec(structure, tensors, by_keyword=bool(named))
