"""Trace: all calls of leaf layers and raw operations that make up a model of any kind, on symbolic tensors.

What a layer of the user's, a block or a subclassed model does in its ``call`` is run on KerasTensors, so that the calls
in it are found too; what cannot be run so is one call.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from tfgreen.model.call_spec import read_call_spec, symbolic_inputs
from tfgreen.model.internals import (
    graph_calls,
    graph_of,
    history_of,
    input_layers,
    is_container,
    is_graph,
    producing_call,
)
from tfgreen.model.layer_calls import Around, listening
from tfgreen.model.paths import join_path, walk
from tfgreen.model.rebuild import rebuild
from tfgreen.typing import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation.

    ``inputs`` are its tensors, flat. A call ``in_graph`` is held by a functional model, which can be run with another
    operation in its place; the others are Python code. ``owner`` is the path of the layer whose code makes the call,
    None where a graph does.
    """

    path: str
    operation: keras.Operation
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    in_graph: bool
    owner: str | None

    def __str__(self) -> str:
        if self.owner is not None and not self.in_graph:  # its own name is a number
            return f"{type(self.operation).__name__} in the code of '{self.owner or 'the model'}'"
        return f"{type(self.operation).__name__} '{self.path}'"


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """The calls of a copy of a model, producers before consumers, and its inputs and outputs.

    ``entered`` are the tensors passed into the layers that were looked into, by path, and into each InputLayer of
    nested graphs; ``shut`` those passed into graphs held by layers of the user's, whose inputs cannot be changed.
    ``code`` names the layers whose code was looked into, and ``unseen`` says why that of others could not be, by path.
    """

    model: keras.Model
    calls: tuple[Call, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    entered: Mapping[str, tuple[Tensor, ...]]
    shut: tuple[Tensor, ...]
    code: Mapping[str, str]
    unseen: Mapping[str, str]


class _Read(keras.Variable):
    """What the class of a variable becomes in the traced copy: ``scale * x`` is an operation as ``x * scale`` is."""


def _operator(name: str, operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def call(self: keras.Variable, other: Any) -> Any:
        is_symbolic = isinstance(other, keras.KerasTensor)
        return operation(self, other) if is_symbolic else getattr(keras.Variable, name)(self, other)

    return call


_OPERATORS = {
    "add": keras.ops.add, "sub": keras.ops.subtract, "mul": keras.ops.multiply, "truediv": keras.ops.true_divide,
    "floordiv": keras.ops.floor_divide, "mod": keras.ops.mod, "pow": keras.ops.power, "matmul": keras.ops.matmul,
    "lt": keras.ops.less, "le": keras.ops.less_equal, "gt": keras.ops.greater, "ge": keras.ops.greater_equal,
}
for _name, _operation in _OPERATORS.items():
    setattr(_Read, f"__{_name}__", _operator(f"__{_name}__", _operation))


class _Several(keras.KerasTensor):
    """Outputs some of which are None, as one that Keras takes for a tensor, and that code can take apart."""

    def __init__(self, outputs: Any, first: keras.KerasTensor) -> None:
        super().__init__(first.shape, first.dtype)
        self._outputs = outputs

    def __iter__(self) -> Iterator[Any]:
        return iter(self._outputs)

    def __getitem__(self, key: Any) -> Any:
        return self._outputs[key]

    def __len__(self) -> int:
        return len(self._outputs)


_NOT_KERAS = "KerasTensor cannot be used as input to a TensorFlow function"
_NO_SIZE = "Attempt to convert a value (None)"
_SIZES = (37, 7)  # for axes that inputs leave open: no widths of layers, and the second within any limit


def trace(model: keras.Model, is_leaf: Callable[[keras.Layer], bool], training: bool = False) -> Trace:
    """Run a copy of a model on symbolic inputs; the layers for which ``is_leaf`` is not true are looked into.

    Where their code needs more than open sizes, it is run with the size that lets most be seen.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a"), keras.layers.ReLU(name="b")])
        >>> [call.path for call in trace(model, lambda layer: True).calls if call.in_graph]
        ['a', 'b']
    """
    result = _trace(model, is_leaf, training)
    is_open = any(None in tensor.shape for tensor in result.inputs)
    for size in _SIZES if is_open else ():
        if result.unseen:
            try:
                sized = _trace(model, is_leaf, training, size)
            except Exception:  # noqa: B902 - a size that the model does not take
                continue
            if len(sized.calls) > len(result.calls) or len(sized.unseen) < len(result.unseen):
                result = sized
    return result


def _trace(
    model: keras.Model, is_leaf: Callable[[keras.Layer], bool], training: bool, size: int | None = None
) -> Trace:
    copy: keras.Model = rebuild(model, lambda path, layer: layer)
    for variable in copy.variables:
        if type(variable) is keras.Variable:
            variable.__class__ = _Read
    paths = {id(copy): "", **{id(layer): path for path, layer in walk(copy)}}
    nested = {id(layer) for _, layer in walk(copy, opens=is_container)} if is_container(copy) else set()
    paths |= {id(operation): path for path, operation in _raw_operations(copy, "")}
    opened = [layer for _, layer in [("", copy), *walk(copy)] if is_container(layer) or not is_leaf(layer)]
    entered: dict[str, tuple[Tensor, ...]] = {}
    shut: list[Tensor] = []
    inside: dict[int, tuple[Tensor, Any]] = {}  # a tensor that an opened layer takes or returns -> who made it in there
    code: dict[str, str] = {}
    unseen: dict[str, str] = {}
    owners: dict[int, tuple[Any, str]] = {}  # calls of the code of opened layers

    def around(layer: keras.Layer, call: Around, /, *args: Any, **kwargs: Any) -> Any:
        passed = [tensor for tensor in keras.tree.flatten((args, kwargs)) if isinstance(tensor, keras.KerasTensor)]
        for tensor in passed:  # one that is handed back, Keras will say that the layer made
            inside.setdefault(id(tensor), (tensor, history_of(tensor)))
        try:
            outputs = layer.call(*args, **kwargs)
        except Exception as error:  # code of the user's, which may need more than symbolic tensors: it stays one call
            unseen.setdefault(paths[id(layer)], _why(error))
            return call(*args, **kwargs)
        returned = keras.tree.flatten(outputs)
        leaves = [leaf for leaf in returned if leaf is not None or layer is copy]
        if not leaves or not all(isinstance(leaf, keras.KerasTensor) for leaf in leaves):
            unseen.setdefault(paths[id(layer)], "it returns what no operation of Keras has computed")
            return call(*args, **kwargs)
        entered.setdefault(paths[id(layer)], tuple(passed))
        if is_graph(layer) and layer is not copy:
            can_change = id(layer) in nested and is_container(layer)
            takers = keras.tree.flatten(input_layers(layer)) if can_change else []
            if len(takers) == len(passed):
                entered.update({join_path(paths[id(layer)], t.name): (tensor,) for t, tensor in zip(takers, passed)})
            else:
                shut.extend(passed)
        if not is_graph(layer):
            path = paths[id(layer)]
            code[path] = f"{type(layer).__name__} '{path or layer.name}'"
            for node in _ordered(leaves, {key: history for key, (_, history) in inside.items()}, passed):
                owners.setdefault(id(node), (node, path))
        for leaf in leaves:  # Keras is about to say that the layer made it
            inside.setdefault(id(leaf), (leaf, history_of(leaf)))
        return outputs if len(leaves) == len(returned) else _Several(outputs, leaves[0])

    batch = read_call_spec(copy).batch or 1
    inputs = args, kwargs = keras.tree.map_structure(lambda x: _input(x, batch, size), symbolic_inputs(copy))
    with listening({(layer, "symbolic_call"): around for layer in opened}):
        outputs = tuple(keras.tree.flatten(copy(*args, **kwargs, training=training)))
    calls: list[Call] = []
    for node in _ordered(outputs, {key: history for key, (_, history) in inside.items()}):
        path, args, kwargs = paths.get(id(node.operation)), node.arguments.args, node.arguments.kwargs
        tensors = tuple(node.input_tensors), tuple(node.outputs)
        _, owner = owners.get(id(node), (node, None))
        calls.append(Call(path or node.operation.name, node.operation, args, kwargs, *tensors, path is not None, owner))
    return Trace(copy, tuple(calls), tuple(keras.tree.flatten(inputs)), outputs, entered, tuple(shut), code, unseen)


def first_line(error: Exception) -> str:
    """What an error says, without what Keras and TensorFlow add to it."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line.rpartition("}} ")[2].rstrip(".")


def _why(error: Exception) -> str:
    """Why code does not run on symbolic tensors."""
    if _NO_SIZE in str(error):
        return "its code needs sizes that the inputs leave open"
    if _NOT_KERAS not in str(error):
        return first_line(error)
    frames = traceback.extract_tb(error.__traceback__)  # this module's, then the code's own
    return f"'{frames[min(1, len(frames) - 1)].line}' calls TensorFlow; call keras.ops instead"


def _input(tensor: keras.KerasTensor, batch: int, open_size: int | None) -> keras.KerasTensor:
    shape = (batch, *(open_size if size is None else size for size in tensor.shape[1:]))
    return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=tensor.name)


def _raw_operations(model: keras.Layer, prefix: str) -> Iterator[tuple[str, keras.Operation]]:
    if is_container(model):
        for call in graph_calls(graph_of(model)):
            path = join_path(prefix, call.operation.name)
            if isinstance(call.operation, keras.Layer):
                yield from _raw_operations(call.operation, path)
            else:
                yield path, call.operation


def _ordered(outputs: Sequence[Tensor], inside: Mapping[int, Any], begin: Sequence[Tensor] = ()) -> list[Any]:
    """The calls (Keras nodes) behind the outputs, as far as tensors to begin with, each once, producers first."""
    found: dict[int, Any] = {}
    known = set(map(id, begin))

    def makers(tensors: Sequence[Tensor]) -> list[tuple[Any, bool]]:
        return [(producing_call(t, inside.get(id(t))), False) for t in reversed(tensors) if id(t) not in known]

    stack = makers(outputs)
    while stack:
        node, is_done = stack.pop()
        if id(node) in found or node.is_input:
            continue
        if is_done:
            found[id(node)] = node
            continue
        stack.append((node, True))
        stack.extend(makers(node.input_tensors))
    return list(found.values())
