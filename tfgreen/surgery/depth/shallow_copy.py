"""shallow_copy: a model with some of the blocks of another, as a student begins that is to be distilled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, Union

import keras
import numpy as np

from tfgreen.checks import check_integer
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.model.call_spec import symbolic_inputs
from tfgreen.model.copy import Copies
from tfgreen.model.internals import graph_of, is_container, run_symbolically
from tfgreen.model.paths import check_built_model, walk
from tfgreen.surgery.depth.blocks import Stack
from tfgreen.surgery.depth.find_stacks import find_stacks
from tfgreen.surgery.saved_sizes import makes_the_same, refuse_to_save
from tfgreen.transforms.compressed import compressed_layers

_DEPTHS = ("layer", "depth", "block", "repeat")  # in the names of attributes

Layers = Union[int, Sequence[int]]


def shallow_copy(model: keras.Model, layers: Layers) -> keras.Model:
    """Return a copy of ``model`` with some of the layers that it repeats: a student that begins as its teacher.

    Layers are what the model repeats one after the other: the layers of a transformer, of KerasHub or in a list of
    your own, or parts of several calls in a graph (attention, addition, normalization ...). All else is copied: the
    embedding, the head, what ``adapt`` found. Where the model has an encoder and a decoder of such layers, both are
    made shallow. Weights are copies, so that training them leaves ``model`` as it is.

    Args:
        model: Any built Keras 3 model that repeats layers, not compressed. It is not changed.
        layers: The numbers of the layers to keep, from 0, ascending; or how many: then they are spread evenly, the
            first and the last among them.

    Returns:
        A model of the same class, not compiled. Layers that the model numbers by itself are numbered anew.

    Raises:
        TypeError: ``model`` is no ``keras.Model``, or ``layers`` holds no integers.
        ValueError: The model is not built or compressed, or repeats no layers; a number is out of range, given twice or
            out of order; or a layer cannot be left out, as it makes what the others read.

    Source: V. Sanh et al., "DistilBERT, a distilled version of BERT", 2019, arXiv:1910.01108, section 3.

    Example:
        >>> import keras, tfgreen as tg
        >>> blocks = [keras.layers.Dense(8, activation="relu", name=f"block_{i}") for i in range(6)]
        >>> teacher = keras.Sequential([keras.Input((8,)), *blocks, keras.layers.Dense(3, name="head")])
        >>> [layer.name for layer in tg.shallow_copy(teacher, layers=[0, 3, 5]).layers]
        ['block_0', 'block_3', 'block_5', 'head']
    """
    check_built_model(model)
    if compressed_layers(model):
        raise invalid_state(f"model '{model.name}' is compressed.", "Call tg.strip(model) first.")
    stacks = find_stacks(model)
    return without_blocks(model, [(stack, set(kept_layers(layers, stack, model))) for stack in stacks])


def kept_layers(layers: Layers, stack: Stack, model: keras.Model, argument: str = "layers") -> list[int]:
    """The numbers that ``layers`` means of the blocks of a stack."""
    count = len(stack.blocks)
    if isinstance(layers, str) or not isinstance(layers, Sequence):
        check_integer(argument, layers, minimum=1, maximum=count)
        return [round(number) for number in np.linspace(0, count - 1, layers)]
    numbers = np.asarray(layers)
    if numbers.dtype.kind not in "iu" and numbers.size:
        raise invalid_type(argument, expected="an integer, or integers", received=layers)
    found = [int(number) for number in numbers]
    if not found or sorted(set(found)) != found or not 0 <= found[0] <= found[-1] < count:
        where = f"the {count} layers of model '{model.name}'"
        expected = f"numbers from 0 to {count - 1} ({where}), each once, ascending"
        raise invalid_value(argument, expected=expected, received=list(layers))
    return found


def without_blocks(model: keras.Model, kept: Sequence[tuple[Stack, Collection[int]]]) -> keras.Model:
    """A copy of a model with some blocks of its stacks."""
    small: keras.Model = _Shallow(model, kept).of(model)
    args, kwargs = symbolic_inputs(model)
    run_symbolically(lambda *a, **k: small(*a, **k, training=False), *args, **kwargs)
    return small


class _Shallow(Copies):
    """Copies without some blocks: their calls pass on what they are called with, and no container holds them."""

    def __init__(self, model: keras.Model, kept: Sequence[tuple[Stack, Collection[int]]]) -> None:
        super().__init__()
        self._picks: dict[int, dict[int, tuple[int, ...]]] = {}  # of a graph, by its id
        self._gone: dict[int, object] = {}
        self._around: dict[int, tuple[str, int, int]] = {}  # path, and the blocks before and after, of what holds them
        self._names: dict[int, str] = {}
        layers = [("", model), *walk(model)]
        for stack, numbers in kept:
            around = [(path, sub) for path, sub in layers if any(o is stack.owner for o in _below(sub))]
            self._around.update({id(sub): (path, len(stack.blocks), len(numbers)) for path, sub in around})
            if not is_container(stack.owner):  # which makes its layers anew when it is loaded, and names them so
                for first, number in zip(stack.blocks, sorted(numbers)):
                    pairs = zip(stack.blocks[number].operations, first.operations)
                    self._names.update({id(operation): before.name for operation, before in pairs})
            staying = {id(o) for number in numbers for o in stack.blocks[number].operations}
            for number, block in enumerate(stack.blocks):
                if number in numbers:
                    continue
                if block.picks is None:
                    raise invalid_state(
                        f"layer {number} of model '{model.name}' ('{block.output}') cannot be left out: it makes what "
                        "the layers after it read.",
                        f"Keep it: layers={sorted({number, *numbers})}.",
                    )
                self._picks.setdefault(id(graph_of(stack.owner)), {}).update(block.picks)
                self._gone.update({id(o): o for o in block.operations if id(o) not in staying})

    def _new(self, value: Any, register: Callable[[Any], Any]) -> Any:
        new = super()._new(value, register)
        if id(value) in self._names:
            new.name = self._names[id(value)]
        if id(value) in self._around:  # before it is called in the graph around it
            _say_depth(new, *self._around[id(value)])
        return new

    def keeps(self, part: object) -> bool:
        return id(part) not in self._gone

    def in_graph(self, graph: keras.Model) -> Callable[[keras.Operation], Callable[..., Any]]:
        plain, picks, number = super().in_graph(graph), self._picks.get(id(graph), {}), -1

        def stands_for(operation: keras.Operation) -> Callable[..., Any]:
            nonlocal number
            number += 1
            return functools.partial(_pass_on, picks[number]) if number in picks else plain(operation)

        return stands_for


def _pass_on(picks: Sequence[int], *args: object, **kwargs: object) -> list[object]:
    tensors = [part for part in keras.tree.flatten((args, kwargs)) if isinstance(part, keras.KerasTensor)]
    return [tensors[pick] for pick in picks]


def _below(layer: keras.Layer) -> list[keras.Layer]:
    return [layer, *(sub for _, sub in walk(layer))]


def _say_depth(layer: keras.Layer, path: str, before: int, after: int) -> None:
    """Change the attribute of a layer that says how many blocks are in it, as ``num_layers`` does."""
    if before == after or is_container(layer):  # whose config lists its layers
        return
    numbers = [name for name, value in vars(layer).items() if type(value) is int and value == before]
    likely = [name for name in numbers if any(word in name for word in _DEPTHS)]
    for name in [*likely, *(set(numbers) - set(likely) if not makes_the_same(layer) else ())]:
        vars(layer)[name] = after
        if makes_the_same(layer):
            return
        vars(layer)[name] = before
    if not makes_the_same(layer):
        refuse_to_save(path, layer, "layers")
