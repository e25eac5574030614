"""Listen to the layer calls that a model makes, and read their shapes, whatever kind of model it is."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import keras

from tfgreen.errors import invalid_value
from tfgreen.model.graph import shapes_of
from tfgreen.model.internals import input_layers, is_container, run_symbolically
from tfgreen.model.paths import replaceable_layers, walk
from tfgreen.typing import Shape

_exporting: contextvars.ContextVar[bool] = contextvars.ContextVar("exporting", default=False)


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """While a model is traced for the converter: what LiteRT's kernels do by themselves is then left out."""
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


def is_exporting() -> bool:
    """Whether :func:`exporting` is in effect."""
    return _exporting.get()


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer while a model runs on one batch.

    ``inputs`` holds the shapes of all tensors passed, ``output`` that of the first tensor returned; ``depth`` counts
    the layers around it; ``operations`` are the TensorFlow operations it makes itself, those of its sublayers left out.
    """

    layer: keras.Layer
    inputs: tuple[Shape, ...]
    output: Shape
    depth: int
    operations: tuple[Any, ...]


@contextlib.contextmanager
def around_calls(around: Callable[[keras.Layer, tuple, dict[str, Any], Callable[[], Any]], Any]) -> Iterator[None]:
    """In the block ``around(layer, args, kwargs, call)`` stands for each layer call, which ``call()`` makes."""
    plain_call = keras.Layer.__call__

    def listen(callee: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        return around(callee, args, kwargs, lambda: plain_call(callee, *args, **kwargs))

    with mock.patch.object(keras.Layer, "__call__", listen):
        yield


def listen_to_calls(
    heard: Callable[[keras.Layer, tuple, dict[str, Any]], None],
) -> contextlib.AbstractContextManager[None]:
    """Call ``heard(layer, args, kwargs)`` before each layer call made in the block."""

    def around(callee: keras.Layer, args: tuple, kwargs: dict[str, Any], call: Callable[[], Any]) -> Any:
        heard(callee, args, kwargs)
        return call()

    return around_calls(around)


class LayerCalls:
    """The calls of a model's layers in their order, while :meth:`listen` is in effect.

    Layers inside a block (attention, a recurrent layer) count as the block; those of a subclassed model one by one.

    Attributes:
        paths: The path of the layer of each call.
        outputs: What each call returned.
    """

    def __init__(self, model: keras.Model, scope: Callable[[int], contextlib.AbstractContextManager]) -> None:
        layers = replaceable_layers(model) if is_container(model) else walk(model)
        self._known = {id(layer): path for path, layer in layers}
        self._scope = scope
        self.paths: list[str] = []
        self.outputs: list[Any] = []

    def listen(self) -> contextlib.AbstractContextManager[None]:
        """Enter ``scope(number of the call)`` around each call."""

        def around(callee: keras.Layer, args: tuple, kwargs: dict[str, Any], call: Callable[[], Any]) -> Any:
            path = self._known.get(id(callee))
            if path is None:
                return call()
            number = len(self.paths)
            self.paths.append(path)
            self.outputs.append(None)
            with self._scope(number):
                outputs = call()
            self.outputs[number] = outputs
            return outputs

        return around_calls(around)


def trace_calls(layer: keras.Layer, *inputs: Any, **named_inputs: Any) -> list[Call]:
    """Every layer call that ``layer`` makes for one batch, with its shapes, in the order in which the calls begin.

    Works for subclassed models too, because it listens to the calls of a symbolic run instead of reading a graph.

    Args:
        layer: A model or layer; its own call comes first.
        inputs: KerasTensors to call it on, see :func:`symbolic_inputs`.
        named_inputs: The same, by argument name.
    """
    import tensorflow as tf

    calls: list[Call | None] = []
    depth = 0
    claimed: set[str] = set()  # names of the operations that a call already ended has made

    def around(callee: keras.Layer, args: tuple, kwargs: dict[str, Any], call: Callable[[], Any]) -> Any:
        nonlocal depth
        place = len(calls)
        calls.append(None)
        graph = tf.compat.v1.get_default_graph()
        first = len(graph.get_operations())
        depth += 1
        try:
            outputs = call()
        finally:
            depth -= 1
        made = [op for op in graph.get_operations()[first:] if op.name not in claimed]
        claimed.update(op.name for op in made)
        inputs = tuple(shapes_of((args, kwargs)))
        calls[place] = Call(callee, inputs, next(shapes_of(outputs), ()), depth, tuple(made))
        return outputs

    with around_calls(around):
        run_symbolically(layer, *inputs, **named_inputs)
    return [call for call in calls if call is not None]


def symbolic_inputs(model: keras.Model) -> tuple[tuple, dict[str, Any]]:
    """Positional and keyword inputs of a model as KerasTensors of one sample (batch size 1).

    Raises:
        ValueError: A subclassed model does not say what its input shape was.
    """
    if getattr(model, "inputs", None):  # a functional or Sequential model
        layers = input_layers(model)
        spec = keras.tree.map_structure(lambda layer: _one_sample(layer.batch_shape, layer.dtype), layers)
        return (spec,), {}
    model = getattr(model, "stands_for", model)  # a wrapper that names the model it stands for
    built_from = model.get_build_config() or {}
    if built_from.get("input_shape") is not None:
        return (_spec(built_from["input_shape"]),), {}
    if built_from.get("shapes_dict"):
        return (), {k.removesuffix("_shape"): _spec(v) for k, v in built_from["shapes_dict"].items()}
    raise invalid_value(
        f"model '{model.name}' ({type(model).__name__})",
        expected="a model that knows its input shape",
        received="none",
        fix="Call it once on a batch of data.",
    )


def _one_sample(batch_shape: Shape, dtype: str = "float32") -> keras.KerasTensor:
    return keras.KerasTensor((1, *batch_shape[1:]), dtype)


def _spec(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {name: _spec(value) for name, value in shape.items()}
    if shape and isinstance(shape[0], (list, tuple, dict)):
        return [_spec(value) for value in shape]
    return _one_sample(tuple(shape))
