"""TFMOT's marks: which layers of a model are to be quantized, and by which config."""

from __future__ import annotations

from typing import Any

import keras

from tfgreen.compat.quantize_config import QuantizeConfig
from tfgreen.compat.wrappers.wrapper import Wrapper
from tfgreen.errors import InvalidValueError
from tfgreen.model.internals import is_container
from tfgreen.model.paths import check_no_keras2
from tfgreen.model.rebuild import rebuild
from tfgreen.typing import PlainDict


@keras.saving.register_keras_serializable(package="tfgreen")
class QuantizeAnnotate(Wrapper):
    """A layer that ``quantize_apply`` is to quantize."""

    def __init__(self, layer: keras.Layer, *args: Any, quantize_config: QuantizeConfig | None = None, **kwargs: Any):
        super().__init__(layer, *args, **kwargs)
        self.quantize_config = quantize_config

    def get_config(self) -> PlainDict:
        own = keras.saving.serialize_keras_object(self.quantize_config)
        return {**super().get_config(), "quantize_config": own}

    @classmethod
    def from_config(cls, config: PlainDict) -> QuantizeAnnotate:
        own = keras.saving.deserialize_keras_object(config["quantize_config"])
        return super().from_config({**config, "quantize_config": own})


def quantize_annotate_model(to_annotate: keras.Model) -> keras.Model:
    """Return a copy of a built model with every layer marked for :func:`quantize_apply`."""
    check_quantizable("to_annotate", to_annotate)
    return rebuild(to_annotate, lambda path, layer: layer if _is_marked(layer) else QuantizeAnnotate(layer))


def quantize_annotate_layer(to_annotate: keras.Layer, quantize_config: QuantizeConfig | None = None) -> keras.Layer:
    """Return a layer marked for :func:`quantize_apply`, with a config of its own or None for the scheme's."""
    if to_annotate is None:
        raise InvalidValueError("`to_annotate` cannot be None")
    check_no_keras2("to_annotate", to_annotate)
    if not isinstance(to_annotate, keras.Layer) or isinstance(to_annotate, keras.Model):
        raise InvalidValueError(
            "`to_annotate` can only be a `keras.layers.Layer` instance. You passed an instance of type: "
            f"{type(to_annotate).__name__}."
        )
    if quantize_config is not None and not isinstance(quantize_config, QuantizeConfig):
        raise InvalidValueError(
            "`quantize_config` can only be a `tfmot.quantization.keras.QuantizeConfig` instance. You passed an "
            f"instance of type: {type(quantize_config).__name__}."
        )
    return QuantizeAnnotate(to_annotate, quantize_config=quantize_config)


def _is_marked(layer: keras.Operation) -> bool:
    return isinstance(layer, QuantizeAnnotate)


def check_quantizable(name: str, model: object) -> None:
    """Raise unless a model is a built Sequential or functional one of Keras 3."""
    if model is None:
        raise InvalidValueError(f"`{name}` cannot be None")
    check_no_keras2(name, model)
    if not isinstance(model, keras.Model):
        raise InvalidValueError(
            f"`{name}` can only be a `keras.Model` instance. Use the `quantize_annotate_layer` API to handle "
            f"individual layers. You passed an instance of type: {type(model).__name__}."
        )
    if isinstance(model, keras.Sequential) and not model.built:
        raise InvalidValueError(
            f"`{name}` must be a built model. Please call `model.build(input_shape)` before quantizing your model."
        )
    if not is_container(model):
        raise InvalidValueError(
            f"`{name}` can only either be a keras Sequential or Functional model. tg.quantize(model) rounds the "
            "weights of any other."
        )
