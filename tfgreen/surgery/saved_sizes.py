"""Let a layer be saved after layers in it have shrunk: by its own config, or by that and the sizes that differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NoReturn

import keras
import numpy as np

from tfgreen.errors import invalid_state, layer_subject
from tfgreen.model.internals import resize_variable
from tfgreen.model.paths import own_weights, walk, weights_by_path
from tfgreen.model.rebuild import build_configs, build_from_configs
from tfgreen.transforms.lora import adapters
from tfgreen.typing import PlainDict, Shape


@keras.saving.register_keras_serializable(package="tfgreen")
class Slimmed:
    """What the class of a layer becomes a subclass of, beside what it was, when its own config does not say how wide it
    is: Keras then saves the sizes of all in it beside the config.

    ``import tfgreen`` before ``keras.models.load_model``, or call ``tg.load_model``.
    """

    def get_config(self) -> PlainDict:
        cls, layer = _plain_class(self), {"config": super().get_config()}  # type: ignore[misc]
        layer |= {"module": cls.__module__, "class_name": cls.__name__}
        rest = {"build": build_configs(self), "sizes": _sizes(self)}
        config: PlainDict = {"layer": layer | {"registered_name": keras.saving.get_registered_name(cls)}, **rest}
        return {name: keras.saving.serialize_keras_object(value) for name, value in config.items()}

    @classmethod
    def from_config(cls, config: PlainDict) -> keras.Layer:
        # The class of a layer at hand need not be registered.
        known = {keras.saving.get_registered_name(plain): plain for plain in cls.__bases__[1:]}
        layer: keras.Layer = keras.saving.deserialize_keras_object(config["layer"], custom_objects=known)
        build_from_configs(layer, keras.saving.deserialize_keras_object(config["build"]))
        layers, sizes = dict(_with_paths(layer)), keras.saving.deserialize_keras_object(config["sizes"])
        if layers.keys() != sizes.keys():  # Keras numbers the layers of a graph that have no names
            sizes = dict(zip(layers, sizes.values(), strict=True))
        for path, sub in layers.items():
            _resize(sub, sizes[path])
        return layer


def _plain_class(layer: object) -> Any:
    """The class of a layer without :class:`Slimmed`."""
    return type(layer).__bases__[1] if isinstance(layer, Slimmed) else type(layer)


def _be_slimmed(layer: keras.Layer) -> None:
    # Keras looks a class up by its name, and lists in its registry none that is made at run time.
    layer.__class__ = type("tfgreen>Slimmed", (Slimmed, type(layer)), {"__module__": __name__})


def _sizes(slim: keras.Layer) -> PlainDict:
    """All of a layer and those in it that may differ from what its config makes, by path."""
    return {
        path: {
            "weights": {name: tuple(weight.shape) for name, weight in own_weights(layer).items()},
            "attributes": {name: value for name, value in vars(layer).items() if _is_size(value)},
            "specs": _specs(layer),
            "slimmed": isinstance(layer, Slimmed),
        }
        for path, layer in _with_paths(slim)
    }


def _with_paths(layer: keras.Layer) -> list[tuple[str, keras.Layer]]:
    return [("", layer), *walk(layer)]


def _resize(layer: keras.Layer, sizes: PlainDict) -> None:
    weights = own_weights(layer)
    for name, shape in sizes["weights"].items():
        value = weights[name].numpy()
        if value.shape != tuple(shape):
            resize_variable(weights[name], np.resize(value[tuple(map(slice, shape))], shape))
    for name, value in sizes["attributes"].items():
        before = vars(layer).get(name, value)
        same_type = tuple(value) if isinstance(before, tuple) else value  # JSON knows lists alone
        if before != same_type:
            setattr(layer, name, same_type)
    if _specs(layer) != sizes["specs"]:
        specs = [keras.layers.InputSpec.from_config(config) for config in sizes["specs"]]
        layer.input_spec = specs if isinstance(layer.input_spec, (list, tuple)) else specs[0]
    if sizes["slimmed"] and not isinstance(layer, Slimmed):
        _be_slimmed(layer)


def _is_size(value: object) -> bool:
    """Whether an attribute is a number of channels, or a shape or several."""
    if isinstance(value, (list, tuple, dict)):
        parts = value.values() if isinstance(value, dict) else value
        return bool(parts) and all(part is None or _is_size(part) for part in parts)
    return type(value) is int


def _specs(layer: keras.Layer) -> list[PlainDict]:
    specs = layer.input_spec if isinstance(layer.input_spec, (list, tuple)) else [layer.input_spec]
    configs = [spec.get_config() for spec in specs if spec is not None]
    return [{**config, "axes": {str(axis): size for axis, size in config["axes"].items()}} for config in configs]


def set_config(path: str, layer: keras.Layer, before: Mapping[int, Shape]) -> None:
    """Change the attributes of a layer that name sizes, as ``units`` does, so that its config makes what it is now.

    Where that cannot be, its class becomes one of :class:`Slimmed`. Where that does not help either, ``get_config()``
    raises: Keras would save a file that it cannot load.

    Args:
        path: Its path in the model.
        layer: The layer, whose weights have shrunk.
        before: The shapes that its weights had, by ``id``.
    """
    sizes: dict[int, set[int]] = defaultdict(set)
    for weight in layer.weights:
        for old, new in zip(before[id(weight)], weight.shape):
            sizes[old or 0].add(new)
    if all(new == {old} for old, new in sizes.items()) or isinstance(layer, Slimmed):
        return
    code = getattr(type(layer).call, "__code__", None)
    read = code.co_names if code is not None else ()  # what call computes with is no size to change
    numbers = {name: value for name, value in vars(layer).items() if type(value) is int and name not in read}
    named = {name: value for name, value in numbers.items() if sizes.get(value, {value}) != {value}}
    for name, value in named.items():
        smaller = sizes[value] - {value}
        if len(smaller) == 1:
            vars(layer)[name] = smaller.pop()
    if makes_the_same(layer):
        return
    vars(layer).update(named)
    plain = type(layer)
    _be_slimmed(layer)
    if makes_the_same(layer):
        return
    layer.__class__ = plain
    refuse_to_save(path, layer, "channels")


def refuse_to_save(path: str, layer: keras.Layer, lost: str) -> None:
    """Let ``get_config()`` of a layer say that Keras could not load what it saved."""

    def get_config() -> NoReturn:
        subject = layer_subject(path, layer) if path else f"model '{layer.name}' ({type(layer).__name__})"
        raise invalid_state(
            f"{subject} has lost {lost}, and Keras cannot make it from what its get_config() returns.",
            "Convert the model, save its weights, or give the class a get_config() with all its arguments.",
        )

    vars(layer)["get_config"] = get_config


def makes_the_same(layer: keras.Layer) -> bool:
    """Whether a layer made from the config of another has weights of the same shapes, all classes being known.

    Adapters of ``enable_lora`` are left out: Keras saves what they and the weights make together.
    """
    classes = [_plain_class(sub) for _, sub in _with_paths(layer)]
    try:
        config: PlainDict = layer.get_config()
        with keras.saving.custom_object_scope({keras.saving.get_registered_name(cls): cls for cls in classes}):
            made = type(layer).from_config(config)
        build_from_configs(made, build_configs(layer))
    except Exception:  # code of the user's, which may fail in any way on a config
        return False
    adapted = {id(part) for adapter in adapters(layer).values() for part in (adapter.a, adapter.b)}
    shapes, expected = (
        {name: tuple(weight.shape) for name, weight in weights_by_path(one).items() if id(weight) not in adapted}
        for one in (made, layer)
    )
    return shapes == expected or [*shapes.values()] == [*expected.values()]
