"""Wrapper: what TFMOT's functions return for a single layer, which may have no weights yet; and what they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from typing_extensions import Self

from tfgreen.config import Config, check_options
from tfgreen.errors import InvalidValueError, invalid_state, layer_subject
from tfgreen.model.copy import Copies
from tfgreen.model.internals import is_container
from tfgreen.model.paths import check_no_keras2, join_path
from tfgreen.transforms.base import ActivationHook, Chain
from tfgreen.transforms.compress import Choice
from tfgreen.transforms.compressed import Compressed
from tfgreen.typing import PlainDict, Tensors


class Wrapper(Compressed):
    """A layer that is compressed as soon as it has weights; a subclass says how, in ``choose``.

    A layer that has weights already is copied, so that the model it may be part of stays as it is. The
    wrapper's name is TFMOT's: that of the layer after a ``prefix``.
    """

    prefix = ""

    def __new__(cls, layer: keras.Layer, *args: object, **kwargs: object) -> Wrapper:
        instance = super().__new__(cls, layer, *args, **kwargs)
        # Keras reads from the signature of `build` which shapes it takes: show the inner one's.
        build: Any = instance.build
        build.__signature__ = inspect.signature(layer.build)
        return instance

    def __init__(
        self,
        layer: keras.Layer,
        chains: Sequence[Chain] = (),
        activations: ActivationHook | None = None,
        *,
        config: Config | None = None,
        **kwargs: Any,
    ) -> None:
        if config is not None and layer.weights:
            layer = Copies().of(layer)
        super().__init__(layer, chains, activations, **{"name": f"{self.prefix}{layer.name}", **kwargs})
        self.config = config
        if getattr(layer, "_input_shape_arg", None) is not None:  # with which a Sequential model begins
            self._input_shape_arg = layer._input_shape_arg
        if layer.built:
            self._build_chains()

    @classmethod
    def of_model(
        cls, layer: keras.Layer, chains: Sequence[Chain], activations: ActivationHook | None, config: Config
    ) -> Self:
        """The wrapper of a layer of a model, which is built: it has its chains and keeps its name."""
        result = cls(layer, chains, activations, name=layer.name)
        result.config = config
        return result

    def __call__(self, *args: Tensors, **kwargs: object) -> Tensors:
        if not self.layer.built and type(self.layer).build in (keras.Layer.build, keras.Model.build):
            # It has no build of its own: its first call builds what it holds.
            shown = keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype), args)
            self.layer(*shown, **kwargs)
        return super().__call__(*args, **kwargs)

    def choose(self) -> Choice:
        """What the chains of the layer, which is built, are to hold."""
        raise NotImplementedError(f"{type(self).__name__} must implement choose().")

    def _build_chains(self) -> None:
        if getattr(self, "config", None) is not None and not self.chains:
            if not tf.executing_eagerly():
                sentence = f"{layer_subject(self.name, self.layer)} gets its weights only when training begins."
                fix = "Begin the model with a keras.Input, or make it anew and call it before fit: model(x[:1])."
                raise invalid_state(sentence, fix)
            choice = self.choose()
            self.chains = [Chain(weight, transforms) for weight, transforms in choice.transforms.items()]
            if choice.reason:
                self.reasons = {**self.reasons, self.name: choice.reason}
            self.reasons.update({join_path(self.name, weight): reason for weight, reason in choice.reasons.items()})
        super()._build_chains()

    def get_build_config(self) -> PlainDict:
        return super().get_build_config() if self.built else {}

    def get_config(self) -> PlainDict:
        own = {} if self.built or self.config is None else {"config": self.config.to_dict()}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: PlainDict) -> Self:
        own = config.get("config")
        result = super().from_config({name: value for name, value in config.items() if name != "config"})
        result.config = None if own is None else Config.from_dict(own)
        return result


# What Keras takes for any layer, and its Keras 2 took.
_OF_ANY_LAYER = (
    "name", "dtype", "trainable", "activity_regularizer", "autocast", "input_shape", "batch_input_shape", "input_dim",
    "batch_size", "dynamic", "weights",
)


def check_keywords(
    name: str, function: Callable[..., object], given: Mapping[str, object], own: Sequence[str] = ()
) -> None:
    """Refuse keyword arguments that neither a function, its wrapper (``own``) nor a layer has."""
    parameters = [each for each in inspect.signature(function).parameters if each != "kwargs"]
    check_options([each for each in given if each not in _OF_ANY_LAYER], [*parameters, *own], f"argument of {name}")


def check_board_keywords(name: str, given: Mapping[str, object], own: Sequence[str]) -> None:
    """Refuse keyword arguments that neither a callback for TensorBoard (``own``) nor Keras's has."""
    of_keras = inspect.signature(keras.callbacks.TensorBoard).parameters
    check_options(given, [*own, *(each for each in of_keras if each not in own)], f"argument of {name}")


Each = Callable[[keras.Layer], keras.Layer]


def on_any(value: Any, of_layer: Each, of_model: Callable[[keras.Model], keras.Model], takes: str) -> Any:
    """What TFMOT's functions return for a model, a layer or a list of layers; ``takes`` is the error for all else."""
    if isinstance(value, list):
        return [on_any(item, of_layer, of_model, takes) for item in value]
    check_no_keras2("to_prune or to_cluster", value)
    if isinstance(value, (Compressed, keras.layers.InputLayer)):
        return value
    if isinstance(value, keras.Model):
        return of_model(value)
    if isinstance(value, keras.Layer):
        return of_layer(value)
    raise InvalidValueError(takes.format(type(value).__name__))


def is_unbuilt(model: keras.Model) -> bool:
    """Whether a model has no weights yet: Keras may take a subclassed one for built whose layers are not."""
    return not model.built or not (model.weights or is_container(model))


def on_unbuilt(model: keras.Model, of_layer: Each, takes: str) -> keras.Model:
    """A Sequential model without weights yet, its layers wrapped."""
    if not isinstance(model, keras.Sequential):
        raise InvalidValueError(takes.format(type(model).__name__))

    def of_nested(nested: keras.Model) -> keras.Model:
        if not isinstance(nested, keras.Sequential):
            raise InvalidValueError("Subclassed models are not supported currently.")
        return on_unbuilt(nested, of_layer, takes)

    return keras.Sequential([on_any(layer, of_layer, of_nested, takes) for layer in model.layers], name=model.name)
