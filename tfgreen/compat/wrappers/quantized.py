"""Quantized: a layer of a quantized model, with the config that it was quantized by."""

from __future__ import annotations

from typing import Any

import keras

from tfgreen.compat.quantize_config import DefaultQuantizeConfig, QuantizeConfig
from tfgreen.transforms.compressed import Compressed, unproject
from tfgreen.typing import PlainDict


@keras.saving.register_keras_serializable(package="tfgreen")
class Quantized(Compressed):
    """A quantized layer; ``isinstance(layer, QuantizeWrapper)`` is true of it.

    Example:
        >>> import keras, tfgreen.compat as tfmot
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> layer = tfmot.quantization.keras.quantize_model(model).get_layer("out")
        >>> [(weight.name, quantizer.num_bits) for weight, quantizer in
        ...  layer.quantize_config.get_weights_and_quantizers(layer.layer)]
        [('kernel', 8)]
    """

    def __init__(self, *args: Any, quantize_config: QuantizeConfig | PlainDict | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._quantize_config = quantize_config

    @classmethod
    def of(cls, layer: Compressed, config: QuantizeConfig | PlainDict | None) -> Quantized:
        """The same layer, with the config that it was quantized by."""
        for variable in layer.layer.variables:
            unproject(variable)
        result = cls(layer.layer, layer.chains, layer.activations, layer.reasons, quantize_config=config)
        result.activity_regularizer = layer.activity_regularizer
        return result

    @property
    def quantize_config(self) -> QuantizeConfig:
        """The config that it was quantized by. Of a loaded model it is made when it is asked for, so that only then
        Keras has to know its class."""
        own = self._quantize_config
        if isinstance(own, dict):
            own = self._quantize_config = keras.saving.deserialize_keras_object(dict(own))
        return own if isinstance(own, QuantizeConfig) else DefaultQuantizeConfig()

    def get_config(self) -> PlainDict:
        own = self._quantize_config
        config = dict(own) if isinstance(own, dict) else keras.saving.serialize_keras_object(own)
        return {**super().get_config(), "quantize_config": config}
