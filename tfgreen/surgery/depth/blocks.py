"""Blocks: the parts that a model repeats one after the other, such as the layers of a transformer.

A block is a run of calls in a graph, often of a single layer, or a layer in a list that its owner calls in turn. The
runs are found by what repeats: calls of the same classes that return the same shapes, where nothing but the tensors of
the block before, and what all blocks read alike (a mask), goes into a block.

    tokens -> embedding -> [norm, attention, add, dense, add] -> [norm, attention, add, dense, add] -> head
                           block 0                               block 1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """One of the blocks of a model.

    Attributes:
        layers: The path of each of its layers, the innermost left out, and the number of the call it is in: 0, or more
            where the model calls a layer in several blocks.
        picks: For a block of a graph: by the number of a call in the graph, which of its tensors it passes on in the
            place of each output if the block is left out; None where it cannot be.
        operations: What it calls.
    """

    layers: tuple[tuple[str, int], ...]
    operations: tuple[keras.Operation, ...]
    picks: Mapping[int, tuple[int, ...]] | None

    @property
    def output(self) -> str:
        """The layer that returns what the block does, as ``path`` or ``path@call``; ``""`` if that is no layer."""
        last = self.operations[-1]
        if not self.layers or not isinstance(last, keras.Layer):
            return ""
        path, call = self.layers[-1]
        return f"{path}@{call}" if call else path


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """Blocks that follow each other; ``owner`` is the layer whose graph or list holds them, at ``path``."""

    path: str
    owner: keras.Layer
    blocks: tuple[Block, ...]

    @property
    def kind(self) -> tuple[type, ...]:
        return tuple(type(operation) for operation in self.blocks[0].operations)

    @property
    def size(self) -> int:
        """The number of weights in it, one that is shared counted for each block."""
        return sum(o.count_params() for b in self.blocks for o in b.operations if isinstance(o, keras.Layer))
