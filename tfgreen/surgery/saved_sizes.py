"""Let a layer of the user's class be saved after layers in it have shrunk, or say that it cannot be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NoReturn

import keras

from tfgreen.errors import invalid_state, layer_subject
from tfgreen.model.internals import is_graph
from tfgreen.model.paths import weights_by_path
from tfgreen.model.rebuild import build_configs, build_from_configs
from tfgreen.typing import PlainDict, Shape


def set_config(path: str, layer: keras.Layer, before: Mapping[int, Shape]) -> None:
    """Change the attributes of a layer that name sizes, as ``units`` does, so that its config makes what it is now.

    Where that cannot be, ``get_config()`` raises: Keras would save a file that it cannot load.

    Args:
        path: Its path in the model.
        layer: The layer, whose weights have shrunk.
        before: The shapes that its weights had, by ``id``.
    """
    sizes: dict[int, set[int]] = defaultdict(set)
    for weight in layer.weights:
        for old, new in zip(before[id(weight)], weight.shape):
            sizes[old or 0].add(new)
    if all(new == {old} for old, new in sizes.items()):
        return
    code = getattr(type(layer).call, "__code__", None)
    read = code.co_names if code is not None else ()  # what call computes with is no size to change
    numbers = {name: value for name, value in vars(layer).items() if type(value) is int and name not in read}
    named = {name: value for name, value in numbers.items() if sizes.get(value, {value}) != {value}}
    for name, value in named.items():
        smaller = sizes[value] - {value}
        if len(smaller) == 1:
            vars(layer)[name] = smaller.pop()
    if not _makes_the_same(layer):
        vars(layer).update(named)

        def get_config() -> NoReturn:
            subject = layer_subject(path, layer) if path else f"model '{layer.name}' ({type(layer).__name__})"
            others = "save keras.Model(model.inputs, model.outputs)" if is_graph(layer) else "keep some of its layers"
            way = f"leave the layer out: keep={[path]}" if path else others
            raise invalid_state(
                f"{subject} has lost channels, and its get_config() does not say how many are left: Keras could not "
                "load it.",
                f"Convert the model, save its weights, or {way}.",
            )

        vars(layer)["get_config"] = get_config


def _makes_the_same(layer: keras.Layer) -> bool:
    """Whether a layer made from the config of another has weights of the same shapes."""
    try:
        config: PlainDict = layer.get_config()
        made = type(layer).from_config(config)
        build_from_configs(made, build_configs(layer))
    except Exception:  # code of the user's, which may fail in any way on a config
        return False
    shapes, expected = (
        {name: tuple(weight.shape) for name, weight in weights_by_path(one).items()} for one in (made, layer)
    )
    return shapes == expected
