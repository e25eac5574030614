"""Rebuild the graph of a Keras 2 model from the config that its ``.h5`` file holds.

Keras 3 refuses most of these files, and reads some of them wrongly. Here the file's own config is translated by the
tables of :mod:`tfgreen.model.keras2.config`, every layer is made by Keras 3 from the translated config, and the graph
is called again node by node, through public Keras functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras

from tfgreen.errors import TfgreenError, invalid_value
from tfgreen.model.keras2.config import broken, keras3_name, refused, translate, unknown_class
from tfgreen.model.keras2.ops import OPS
from tfgreen.typing import Tensor, Tensors

Json = Any  # parsed JSON

_GRAPHS = ("Functional", "Model")
_OP_LAYERS = ("TFOpLambda", "SlicingOpLambda")


def model_from_keras2(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> keras.Model:
    """Build the model that the ``model_config`` of a Keras 2 ``.h5`` file describes; its weights are fresh."""
    with keras.saving.custom_object_scope(custom_objects or {}):
        return _model(config, path="")


def _model(entry: dict[str, Any], path: str) -> keras.Model:
    config = _config(entry)
    model = _functional(entry, config, path) if "input_layers" in config else _sequential(config, path)
    if config.get("trainable") is False:
        model.trainable = False
    return model


def _config(entry: dict[str, Any]) -> dict[str, Any]:
    """The config of an entry; that of a Sequential was a list of its layers before Keras 2.2.3."""
    config = entry["config"]
    return {"name": entry.get("name"), "layers": config} if isinstance(config, list) else config


def _sequential(config: dict[str, Any], path: str) -> keras.Model:
    layers = [_layer(entry, path) for entry in config["layers"]]
    shape = _declared_input(config)
    if shape is not None and not isinstance(layers[0], keras.layers.InputLayer):
        layers.insert(0, keras.layers.InputLayer(batch_shape=shape, name=f"{layers[0].name}_input"))
    model = _assembled(keras.Sequential, path, config, layers=layers)
    if not model.built:
        raise broken(path.rstrip("/") or model.name, "Sequential", "no input shape in the file")
    return model


def _declared_input(config: dict[str, Any]) -> Any:
    """The input shape that a Sequential's config states, or None."""
    first = config["layers"][0]["config"] if config["layers"] else {}
    return first.get("batch_input_shape") if isinstance(first, dict) else None


def _functional(entry: dict[str, Any], config: dict[str, Any], path: str) -> keras.Model:
    graph = _Graph(config["layers"], path)
    inputs, outputs = (unwrap(graph.resolve(config[key])) for key in ("input_layers", "output_layers"))
    name = entry["class_name"]
    cls = keras.Model if name in _GRAPHS else keras.saving.get_registered_object(name)
    if cls is None:
        raise unknown_class(path or config.get("name", ""), name)
    return _assembled(cls, path, config, inputs=inputs, outputs=outputs)


def _assembled(cls: type[keras.Model], path: str, config: dict[str, Any], **parts: object) -> keras.Model:
    """Put a model together; Keras may still refuse it, for instance for two layers of one name."""
    try:
        return cls(**parts, name=keras3_name(config["name"]) if config.get("name") else None)
    except Exception as error:  # whatever Keras or a custom model class raises when it is made
        raise refused(path.rstrip("/") or str(config.get("name")), cls.__name__, error) from error


def unwrap(tensors: Tensors) -> Tensors:
    """The tensor in a list of one, which is how ``.h5`` files hold a single input or output."""
    return tensors[0] if isinstance(tensors, list) and len(tensors) == 1 else tensors


def _reserve_names(names: Iterable[str]) -> None:
    """Keep Keras from giving an op the name of a layer of the file (``multiply_3``): count past it."""
    for name in names:
        stem, _, number = name.rpartition("_") if name.rpartition("_")[2].isdigit() else (name, "", "0")
        while keras.backend.get_uid(stem) <= int(number):
            pass


class _Graph:
    """Calls the layers of a functional config, node by node, in the order in which their inputs become known.

    ``outputs[layer, call]`` holds the flat outputs of each call, ``calls[layer]`` the number of a layer's next one.
    """

    def __init__(self, entries: list[dict[str, Any]], path: str) -> None:
        self.path = path
        if any(entry["class_name"] in _OP_LAYERS for entry in entries):
            _reserve_names(entry["name"] for entry in entries)
        # A nested model was called once when it was made; Keras 2 counts that call.
        self.calls = {entry["name"]: int(_counts_own_call(entry)) for entry in entries}
        self.outputs: dict[tuple[str, int], list[Any]] = {}
        pending = [(entry, self._callable(entry), list(entry["inbound_nodes"])) for entry in entries]
        while pending:
            count = sum(len(nodes) for *_, nodes in pending)
            pending = [(entry, call, rest) for entry, call, nodes in pending if (rest := self._run(entry, call, nodes))]
            if pending and sum(len(nodes) for *_, nodes in pending) == count:
                entry = pending[0][0]
                raise broken(f"{path}{entry['name']}", entry["class_name"], "an input that is never computed")

    def _callable(self, entry: dict[str, Any]) -> Callable[..., Any]:
        if entry["class_name"] in _OP_LAYERS:
            return _op(entry, self.path)
        layer = _layer(entry, self.path)
        if isinstance(layer, keras.layers.InputLayer):
            self._record(entry["name"], layer.output)
        return layer

    def _record(self, name: str, outputs: Tensors) -> None:
        self.outputs[name, self.calls[name]] = keras.tree.flatten(outputs)
        self.calls[name] += 1

    def _run(self, entry: dict[str, Any], call: Callable[..., Any], nodes: list[Any]) -> list[Any]:
        """Make the calls whose inputs are known, in order; return those that are left."""
        while nodes and all((ref[0], ref[1]) in self.outputs for ref in self._references(nodes[0])):
            node = nodes.pop(0)
            kwargs = {key: self.resolve(value) for key, value in _arguments(node).items() if value is not None}
            args = [self.resolve(node)]
            if entry["class_name"] not in _OP_LAYERS:
                args = [unwrap(args[0])]
            if isinstance(call, (keras.layers.RNN, keras.layers.Bidirectional)) and isinstance(args[0], list):
                # Keras 2 passed the initial state in the list of inputs.
                args, kwargs = [args[0][0]], {**kwargs, "initial_state": args[0][1:]}
            try:
                result = call(*args, **kwargs)
            except Exception as error:  # whatever Keras or a custom layer raises when it is called
                raise refused(f"{self.path}{entry['name']}", entry["class_name"], error) from error
            self._record(entry["name"], result)
        return nodes

    def resolve(self, value: Json) -> Any:
        """Replace every ``[layer, call, index]`` in ``value`` by the tensor it refers to."""
        if self._is_reference(value):
            name, call, index = value[:3]
            return self.outputs[name, call][index]
        if isinstance(value, list):
            return value[2] if value[:1] == ["_CONSTANT_VALUE"] else [self.resolve(v) for v in value]
        if isinstance(value, dict):
            return {key: self.resolve(v) for key, v in value.items()}
        return value

    def _is_reference(self, value: object) -> bool:
        return (
            isinstance(value, list)
            and len(value) in (3, 4)
            and isinstance(value[0], str)
            and value[0] in self.calls
            and isinstance(value[1], int)
        )

    def _references(self, value: Json) -> list[Any]:
        if self._is_reference(value):
            return [value, *(self._references(value[3]) if len(value) == 4 else [])]
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        return [reference for item in items for reference in self._references(item)]


def _arguments(node: Json) -> dict[str, Any]:
    """The keyword arguments of a call: the fourth item of its first reference."""
    while isinstance(node, list) and node and not isinstance(node[0], str):
        node = node[0]
    if isinstance(node, dict):
        return _arguments(next(iter(node.values())))
    return node[3] if len(node) == 4 else {}


def _counts_own_call(entry: dict[str, Any]) -> bool:
    config = _config(entry)
    return _is_model(entry) and ("input_layers" in config or _declared_input(config) is not None)


def _is_model(entry: dict[str, Any]) -> bool:
    return entry["class_name"] in (*_GRAPHS, "Sequential") or "input_layers" in _config(entry)


def _op(entry: dict[str, Any], path: str) -> Callable[..., Any]:
    symbol = entry["config"]["function"]
    function, names = OPS.get(symbol.split(".")[-1], (None, {}))
    if function is None:
        raise invalid_value(
            f"layer '{path}{entry['name']}' ({entry['class_name']})",
            expected="a TensorFlow function that has a keras.ops counterpart in tfgreen", received=f"tf.{symbol}",
            fix="Rebuild the model with a Keras layer in its place and save it again.",
        )

    def call(x: Tensor, **kwargs: object) -> Tensors:
        return function(x, **{names.get(key, key): value for key, value in kwargs.items()})

    return call


def _layer(entry: dict[str, Any], path: str) -> Any:
    """A layer (or nested model) made by Keras 3 from its Keras 2 entry."""
    where = path + str(entry.get("name") or _config(entry).get("name"))
    if _is_model(entry):
        return _model(entry, path=f"{where}/")
    try:
        return keras.saving.deserialize_keras_object(translate(entry, where))
    except TfgreenError:
        raise
    except Exception as error:  # whatever Keras or a custom layer raises when it is made
        raise refused(where, entry["class_name"], error) from error
