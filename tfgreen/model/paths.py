"""The layers and weights of any Keras 3 model by path (``"encoder/conv"``, ``"encoder/conv/kernel"``)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from tfgreen.errors import ConversionError, TfgreenError, invalid_type, invalid_value
from tfgreen.model.internals import is_container, is_graph, is_named_by_keras, tracked_layers, tracked_variables
from tfgreen.structure import unique_name

Opens = Callable[[keras.Layer], bool]

_ODD = ("float16", "bfloat16", "float64")


def check_built_model(model: object, argument: str = "model") -> None:
    """Raise a TypeError unless ``model`` is a ``keras.Model``, and a ValueError unless it has its weights."""
    check_no_keras2(argument, model)
    if not isinstance(model, keras.Model):
        raise invalid_type(argument, expected="a keras.Model (Keras 3)", received=model)
    if isinstance(getattr(model, "student", None), keras.Model) and hasattr(model, "teacher"):  # or Keras's own
        fix = "Pass distiller.student, which is what is trained and shipped."
        raise invalid_type(argument, expected="one model", received=model, fix=fix)
    if not model.built:
        raise invalid_value(
            f"{argument} '{model.name}'", expected="a built model", received="one without weights",
            fix="Give it a keras.Input, or call it once on a batch of data.",
        )


def check_no_keras2(argument: str, value: object) -> None:
    """Raise a TypeError that says how to bring it over if ``value`` is a model or layer of Keras 2."""
    if any(cls.__module__.startswith(("tf_keras.", "tensorflow.python.keras.")) for cls in type(value).__mro__):
        fix = (
            "It is one of Keras 2: save it with model.save('model.h5') and bring it over with "
            "tg.load_model('model.h5'), or make it with keras in the place of tf_keras."
        )
        raise invalid_type(argument, expected="a model or layer of Keras 3", received=value, fix=fix)


def sublayers(layer: keras.Layer, in_code: bool = False) -> list[tuple[str, keras.Layer]]:
    """The direct sublayers of a layer, under names that are equal in every process.

    The layers of a graph go by the names that its config holds; those of any other layer, whose names Keras numbers
    anew in each process, by the attribute that holds them (``"query_dense"``, ``"blocks/0"``). A graph that the code of
    a layer makes (``in_code``) has no config: what Keras has named in it is numbered within it, from ``"dense"``.
    """
    if is_graph(layer):
        named = [(sub.name, sub) for sub in layer.layers if not isinstance(sub, keras.layers.InputLayer)]
        return _numbered(named) if in_code else named
    tracked = {id(sub): sub for sub in tracked_layers(layer)}
    found: dict[str, keras.Layer] = {}
    for attribute, value in vars(layer).copy().items():  # another thread may listen to the layer meanwhile
        if not tracked:  # as in most layers from the start
            break
        if attribute == "_layers" or attribute.startswith("_self_"):  # Keras's and TensorFlow's own bookkeeping
            continue
        for path, sub in leaves_by_path(value, attribute.lstrip("_") or attribute):
            if tracked.pop(id(sub), None) is not None:
                while path in found:  # the layer held as ``block``, beside this one held as ``_block``
                    path = f"_{path}"
                found[path] = sub
    found.update({sub.name: sub for sub in tracked.values()})
    return list(found.items())


def _numbered(named: Sequence[tuple[str, keras.Layer]]) -> list[tuple[str, keras.Layer]]:
    """The layers of a graph, those with a name of Keras's (``"dense_7"``) numbered anew in their order."""
    given = {name for name, sub in named if not is_named_by_keras(sub)}
    found: dict[str, keras.Layer] = {}
    for name, sub in named:
        kind = re.sub(r"_\d+$", "", name)
        found[name if name in given else unique_name(kind, {*found, *given})] = sub
    return list(found.items())


def leaves_by_path(tree: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Whatever (nested) dicts, lists and tuples hold, by keys and places: ``"head/0"`` below ``path``."""
    if isinstance(tree, (Mapping, list, tuple)):
        for key, item in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from leaves_by_path(item, join_path(path, str(key)))
    else:
        yield path, tree


def join_path(path: str, name: str) -> str:
    """The path of what is named ``name`` within the layer at ``path``, which is ``""`` for the model itself."""
    return f"{path}/{name}" if path else name


def holder_of(path: str, weight: str) -> str:
    """The path of the layer that holds a weight, given by its path within the layer at ``path``."""
    return join_path(path, weight).rpartition("/")[0]


def paths_to(path: str) -> list[str]:
    """The paths of the layers that a layer is in, the outermost first, and its own."""
    names = path.split("/")
    return ["/".join(names[:count]) for count in range(1, len(names) + 1)]


def walk(layer: keras.Layer, opens: Opens = lambda sub: True) -> Iterator[tuple[str, keras.Layer]]:
    """Every layer below ``layer`` once, depth first, with its path; a shared layer goes by its first path.

    The sublayers of those that ``opens`` refuses are left out.
    """
    seen: set[int] = set()

    def visit(parent: keras.Layer, path: str, in_code: bool) -> Iterator[tuple[str, keras.Layer]]:
        for name, sub in sublayers(parent, in_code):
            if id(sub) not in seen:
                seen.add(id(sub))
                yield join_path(path, name), sub
                if opens(sub):
                    yield from visit(sub, join_path(path, name), in_code or not is_graph(parent))

    return visit(layer, "", False)


def replaceable_layers(model: keras.Model) -> list[tuple[str, keras.Layer]]:
    """The layers that a verb can replace, by path: all of a graph and of those in it; else the model itself, ``""``."""
    if not is_container(model):
        return [("", model)]
    return [(path, layer) for path, layer in walk(model, opens=is_container) if not is_container(layer)]


def paths_by_name(model: keras.Model) -> dict[str, str]:
    """The paths of the layers inside blocks -> those by the names of the layers, where the two differ.

    A block that is opened is a graph, whose layers go by their names.

    Example:
        >>> class Block(keras.layers.Layer):
        ...     def __init__(self, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.dense = keras.layers.Dense(3, name="up")
        >>> paths_by_name(keras.Sequential([keras.Input((3,)), Block(name="block")]))
        {'block/dense': 'block/up'}
    """
    found: dict[str, str] = {}
    for path, layer in replaceable_layers(model):
        inside = dict(walk(getattr(layer, "stands_for", layer)))
        for place in inside:
            names = (inside[above].name for above in paths_to(place) if above in inside)
            found[join_path(path, place)] = join_path(path, "/".join(names))
    return {path: named for path, named in found.items() if path != named}


def own_weights(layer: keras.Layer) -> dict[str, keras.Variable]:
    """The weights a layer holds itself, not in sublayers, by name (``"kernel"``, ``"bias"``), trainable ones first."""
    found: dict[str, keras.Variable] = {}
    held = [variable for part in tracked_variables(layer) for variable in part]
    # A wrapper such as SpectralNormalization also refers to a weight of the layer inside, whose it remains.
    below = {id(variable) for sub in tracked_layers(layer) for variable in sub.weights} if held else set()
    for variable in held:
        if id(variable) not in below:
            found[unique_name(variable.name, found)] = variable
    return found


def own_parameters(layer: keras.Layer) -> dict[str, keras.Variable]:
    """Those of :func:`own_weights` that are trained unless the layer is frozen."""
    trainable = {id(variable) for variable in tracked_variables(layer)[0]}
    return {name: variable for name, variable in own_weights(layer).items() if id(variable) in trainable}


def weights_by_path(layer: keras.Layer) -> dict[str, keras.Variable]:
    """All weights of a layer and its sublayers by path (``"kernel"``, ``"cell/recurrent_kernel"``), each once."""
    found: dict[int, tuple[str, keras.Variable]] = {}
    for path, sub in [("", layer), *walk(layer)]:
        for name, weight in own_weights(sub).items():
            found.setdefault(id(weight), (join_path(path, name), weight))
    return dict(found.values())


@contextlib.contextmanager
def naming_dtypes(model: keras.Model, raised: type[TfgreenError] = ConversionError) -> Iterator[None]:
    """Where the block fails on a model that Keras has quantized, or whose weights are no float32, say so and why.

    Some of these compute all the same, so that only the failure tells.
    """
    try:
        yield
    except Exception as error:  # noqa: B902 - TensorFlow raises anything for dtypes that do not go together
        layers = list(walk(model))
        quantized = [path for path, layer in layers if getattr(layer, "quantization_mode", None)]
        odd = {path: layer.variable_dtype for path, layer in layers if layer.variable_dtype in _ODD and layer.weights}
        if not (quantized or odd) or (isinstance(error, TfgreenError) and not isinstance(error, ConversionError)):
            raise
        what = f"layers {quantized} are quantized by Keras (quantize())"
        fix = "Pass the model as it was before: tg.quantize, and tg.convert(quantization='int8'), quantize for LiteRT."
        if odd:
            what = f"layers {[*odd]} hold their weights in {' and '.join(sorted(set(odd.values())))}"
            fix = (
                "Build the model anew in float32: keras.config.set_dtype_policy('float32'), then "
                "new.set_weights(model.get_weights())."
            )
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise raised(f"model '{model.name}': {what}. {fix} It fails with: {lines[0][:300]}") from error
