"""find_stacks: where a model repeats blocks, in a graph or in a list of layers."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from tfgreen.errors import invalid_state
from tfgreen.model.call_spec import symbolic_inputs
from tfgreen.model.internals import is_graph, run_symbolically
from tfgreen.model.layer_calls import Around, around_calls
from tfgreen.model.paths import join_path, leaves_by_path, walk
from tfgreen.surgery.depth.blocks import Block, Stack
from tfgreen.surgery.depth.graph_blocks import stacks_of_graph
from tfgreen.typing import Tensor, Tensors


def find_stacks(model: keras.Model) -> list[Stack]:
    """The stacks of the blocks that hold most weights, several where a model has an encoder and a decoder.

    Raises:
        ValueError: There is none.

    Example:
        >>> layers = [keras.layers.Dense(4, name=f"dense_{i}") for i in range(3)]
        >>> model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
        >>> [block.output for block in find_stacks(model)[0].blocks]
        ['dense_0', 'dense_1', 'dense_2']
    """
    found: list[Stack] = []
    for path, layer in [("", model), *walk(model)]:
        if is_graph(layer):
            found += stacks_of_graph(path, layer)
    found += _in_lists(model)
    found = [stack for stack in found if stack.size]
    if not found:
        raise invalid_state(
            f"model '{model.name}' repeats no blocks: no two parts of equal layers follow each other, in its graph or "
            "in a list of layers that it calls in turn.",
            "Name layers, or build the smaller model yourself.",
        )
    main = max(found, key=lambda stack: stack.size)
    # An encoder beside a decoder, whose layers may be of another class.
    same = [stack for stack in found if stack.owner is main.owner and len(stack.blocks) == len(main.blocks)]
    beside = [stack for stack in same if 4 * stack.size > main.size]
    return [stack for stack in found if stack.kind == main.kind or stack in beside]


def _in_lists(model: keras.Model) -> Iterator[Stack]:
    """The lists of layers of one class of which each is called on what the one before returned."""
    lists: list[tuple[str, keras.Layer, list[tuple[str, keras.Layer]]]] = []
    for path, layer in [("", model), *walk(model)]:
        if is_graph(layer):
            continue
        paths = {id(sub): sub_path for sub_path, sub in walk(layer)}
        for attribute, value in vars(layer).copy().items():
            parts = [part for _, part in leaves_by_path(value)] if isinstance(value, (list, tuple)) else []
            same = len(parts) > 1 and len({type(part) for part in parts}) == 1 and len({*map(id, parts)}) == len(parts)
            if same and attribute != "_layers" and all(id(part) in paths for part in parts):
                lists.append((path, layer, [(join_path(path, paths[id(part)]), part) for part in parts]))
    if not lists:
        return
    seen: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def around(layer: keras.Layer, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
        outputs = call(*args, **kwargs)
        seen.setdefault(id(layer), []).append((keras.tree.flatten((args, kwargs))[0], keras.tree.flatten(outputs)[0]))
        return outputs

    args, kwargs = symbolic_inputs(model)
    with around_calls([part for _, _, parts in lists for _, part in parts], around):
        run_symbolically(lambda *a, **k: model(*a, **k, training=False), *args, **kwargs)
    for path, owner, parts in lists:
        calls = [seen.get(id(part), []) for _, part in parts]
        once = all(len(call) == 1 for call in calls)
        if once and all(a[0][1] is b[0][0] and a[0][1].shape == a[0][0].shape for a, b in zip(calls, calls[1:])):
            yield Stack(path, owner, tuple(Block(((where, 0),), (part,), {}) for where, part in parts))
