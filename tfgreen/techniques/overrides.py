"""What the settings of a verb say about one layer: name patterns, overrides, and weights that are asked for."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import glob
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import keras

from tfgreen.checks import check_are_texts, check_instance
from tfgreen.errors import invalid_state, invalid_type, invalid_value, layer_subject
from tfgreen.model.paths import (
    join_path,
    own_weights,
    paths_by_name,
    paths_to,
    replaceable_layers,
    sublayers,
    walk,
    weights_by_path,
)
from tfgreen.model.weights import Axes, compressible_weights
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.channel_mask import how_to_bake
from tfgreen.transforms.lora import adapters


class LayerSettings(Protocol):
    """A config with overrides by layer (``layers``)."""

    @property
    def layers(self) -> Mapping[str, LayerSettings | None]: ...


class WeightSettings(LayerSettings, Protocol):
    """One that has patterns of further weights (``extra_weights``) too."""

    @property
    def extra_weights(self) -> tuple[str, ...]: ...


T = TypeVar("T")
S = TypeVar("S", bound=LayerSettings)
W = TypeVar("W", bound=WeightSettings)


def check_overrides(config: WeightSettings, of_model: Sequence[str] = ()) -> None:
    """:func:`check_layers`, and raise unless ``extra_weights`` holds patterns, which become a tuple."""
    check_layers(config, of_model)
    check_are_patterns("extra_weights", config.extra_weights, "*/bias")
    object.__setattr__(config, "extra_weights", tuple(config.extra_weights))


def check_are_patterns(name: str, patterns: Sequence[str], example: str) -> None:
    """Raise a TypeError unless a setting is a tuple or list of patterns."""
    if not isinstance(patterns, (tuple, list)):
        raise invalid_type(name, expected=f"a tuple of patterns such as ('{example}',)", received=patterns)
    check_are_texts(name, patterns)


def check_layers(config: LayerSettings, of_model: Sequence[str] = ()) -> None:
    """Raise unless ``layers`` maps patterns to None or configs of the same class; keep a copy.

    These have neither ``layers`` nor any of the settings ``of_model``, which hold for the whole model.
    """
    cls = type(config)
    if not isinstance(config.layers, Mapping) or not all(isinstance(pattern, str) for pattern in config.layers):
        expected = f"a dict of name pattern -> a tg.{cls.__name__} or None"
        raise invalid_type("layers", expected=expected, received=config.layers)
    for pattern, override in config.layers.items():
        if override is None:
            continue
        check_instance(f"layers['{pattern}']", override, cls, f"a tg.{cls.__name__} or None")
        for name in ("layers", *of_model):
            value = getattr(override, name)
            if value is not None and value is not False and not (isinstance(value, (tuple, Mapping)) and not value):
                expected, received = f"no {name} of its own", f"a {type(value).__name__}"
                fix = f"Set {name} for the whole model."
                raise invalid_value(f"layers['{pattern}']", expected=expected, received=received, fix=fix)
    object.__setattr__(config, "layers", dict(config.layers))


def settings_for(path: str, config: S, weight: str = "") -> S | None:
    """The override of the first pattern that matches the path of a layer, else the config itself.

    With the path of a weight within the layer: of the first that matches the layer, or one inside it that holds the
    weight.
    """
    paths = _around(path, weight.rpartition("/")[0])
    for pattern, override in config.layers.items():
        if any(fnmatch.fnmatchcase(each, pattern) for each in paths):
            return override  # type: ignore[return-value]
    return config


def with_aliases(patterns: Mapping[str, T], paths: Iterable[str], aliases: Mapping[str, str]) -> dict[str, T]:
    """Patterns of the paths of layers, after each those that it means by an alias: other path -> one of ``paths``.

    Example:
        >>> with_aliases({"*/up": 1, "stem": 2}, ["block/0", "stem"], {"block/up": "block/0"})
        {'block/0': 1, 'stem': 2}
    """
    known, found = list(paths), dict[str, T]()
    for pattern, value in patterns.items():
        meant = [path for alias, path in aliases.items() if fnmatch.fnmatchcase(alias, pattern)]
        if not meant or fnmatch.filter(known, pattern):
            found.setdefault(pattern, value)
        for path in meant:
            if not any(fnmatch.filter(paths_to(path), earlier) for earlier in found):
                found[glob.escape(path)] = value
    return found


def by_attributes(model: keras.Model, config: S) -> S:
    """The config, whose patterns may mean layers inside blocks by their names too."""
    if not config.layers:
        return config
    aliases = {named: path for path, named in paths_by_name(model).items()}
    layers = with_aliases(config.layers, _each_once(layers_by_weight(model)), aliases)
    return dataclasses.replace(config, layers=layers)  # type: ignore[type-var]


def layers_by_weight(model: keras.Model) -> list[tuple[str, ...]]:
    """For each part of a model that patterns of ``layers`` tell from others, the paths of the layers that it is in: of
    a block, whose layers have settings of their own, the block's and that of each layer within.

    Example:
        >>> attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
        >>> inputs = keras.Input((3, 8))
        >>> layers_by_weight(keras.Model(inputs, attention(inputs, inputs)))[0]
        ('attention', 'attention/query_dense')
    """
    found: list[tuple[str, ...]] = []
    for path, layer in replaceable_layers(model):
        for inside, sub in [("", stands := getattr(layer, "stands_for", layer)), *walk(stands)]:
            if own_weights(sub) or not sublayers(sub):
                found.append(_around(path, inside))
    return found


def _around(path: str, inside: str) -> tuple[str, ...]:
    """The path of a layer, and those of the layers within it that lead to one, and of that one."""
    return (path, *(join_path(path, each) for each in (paths_to(inside) if inside else ())))


def all_settings(config: W) -> list[W]:
    """The config and its overrides, each once."""
    found = {id(settings): settings for settings in (config, *config.layers.values()) if settings is not None}
    return list(found.values())  # type: ignore[arg-type]


def weights_to_compress(path: str, layer: keras.Layer, config: W, method: str) -> dict[str, tuple[Axes, W | None]]:
    """The weights that the table lists for a layer or ``extra_weights`` asks for, by path within the layer, with the
    settings of each: None where they leave it out.

    A ``method`` of the user's layer (TFMOT's ``get_prunable_weights`` or ``get_clusterable_weights``) that returns
    variables, or pairs of a name and a variable, stands for the table.
    """
    table, weights = compressible_weights(layer), weights_by_path(layer)
    listed = set(table)
    if hasattr(layer, method):
        returned = [item[1] if isinstance(item, tuple) else item for item in getattr(layer, method)()]
        odd = [item for item in returned if not isinstance(item, keras.Variable)]
        if odd:
            expected = "variables of the layer, as [self.kernel]"
            raise invalid_type(f"{layer_subject(path, layer)}, {method}()", expected=expected, received=odd[0])
        variables = set(map(id, returned))
        listed = {weight for weight, variable in weights.items() if id(variable) in variables}
    found = {}
    own = {id(variable) for adapter in adapters(layer).values() for variable in (adapter.a, adapter.b)}
    for weight, variable in weights.items():
        if id(variable) in own:  # compressed with the weight that it adapts
            continue
        chosen, name = settings_for(path, config, weight), join_path(path, weight)
        extra = chosen is not None and any(fnmatch.fnmatchcase(name, pattern) for pattern in chosen.extra_weights)
        if weight in listed or extra:
            default = Axes((-2,), (-1,)) if len(variable.shape) >= 2 else Axes((), (-1,))
            found[weight] = table.get(weight, default), chosen
    return found


def check_without(
    path: str, layer: keras.Layer, chains: Mapping[str, Chain], transform: type[TensorTransform], done: str
) -> None:
    """Raise if a chain of the layer holds such a transform, so that the layer is ``done`` ("pruned") already."""
    if any(isinstance(item, transform) for chain in chains.values() for item in chain.transforms):
        how = how_to_bake(chains.values())
        raise invalid_state(f"{layer_subject(path, layer)} is {done} already.", f"Bake it first with {how}.")


def check_patterns(model: keras.Model, config: WeightSettings) -> None:
    """Raise if a pattern of ``layers`` or ``extra_weights`` has no effect in the model."""
    check_layer_patterns(layers_by_weight(model), config.layers)
    layers = {path: getattr(layer, "stands_for", layer) for path, layer in replaceable_layers(model)}
    weights = [(path, weight) for path, layer in layers.items() for weight in weights_by_path(layer)]
    for chosen in all_settings(config):
        own = [join_path(path, weight) for path, weight in weights if settings_for(path, config, weight) is chosen]
        for pattern in chosen.extra_weights:
            check_matches("extra_weights", pattern, own)


def check_layer_patterns(parts: Sequence[str | tuple[str, ...]], patterns: Iterable[str]) -> None:
    """Raise if a pattern of ``layers`` has no effect on layers of these paths, or on parts that are in several."""
    free = [(part,) if isinstance(part, str) else part for part in parts]
    known = _each_once(free)
    for pattern in patterns:
        check_matches("layers", pattern, known)
        if not any(fnmatch.filter(paths, pattern) for paths in free):
            expected = f"a pattern of layers that no earlier pattern matches ({_some(_each_once(free))})"
            fix = "The first pattern that matches counts: put the narrower one first."
            raise invalid_value("layers", expected=expected, received=f"'{pattern}'", fix=fix)
        free = [paths for paths in free if not fnmatch.filter(paths, pattern)]


def _each_once(parts: Iterable[tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(path for paths in parts for path in paths))


def check_matches(name: str, pattern: str, paths: Sequence[str]) -> None:
    """Raise if a pattern of the setting ``name`` matches none of the paths."""
    if not fnmatch.filter(paths, pattern):
        near = difflib.get_close_matches(pattern, paths, 3)
        fix = f"Did you mean {' or '.join(map(repr, near))}?" if near else ""
        expected = f"a pattern that matches one of {_some(paths)}"
        raise invalid_value(name, expected=expected, received=f"'{pattern}'", fix=fix)


def _some(names: Sequence[str]) -> str:
    names = [name for name in names if name]  # a model that is no graph has no path
    return (", ".join(names[:8]) + (", ..." if len(names) > 8 else "")) or "none"
