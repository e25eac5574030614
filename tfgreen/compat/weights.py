"""Transforms of the weights of layers that have a ``QuantizeConfig`` of the user's."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfgreen.compat.quantizers import Quantizer
from tfgreen.compat.ranges import NamedWeights
from tfgreen.transforms.base import TensorTransform
from tfgreen.transforms.exporting import is_exporting
from tfgreen.typing import PlainDict, Tensor


@keras.saving.register_keras_serializable(package="tfgreen")
class Unrounded(TensorTransform):
    """A weight as it is: its config gives it no quantizer, or one of its own."""

    def apply(self, weight: Tensor) -> Tensor:
        return weight


@keras.saving.register_keras_serializable(package="tfgreen")
class QuantizedWeight(TensorTransform):
    """A weight that passes through a quantizer of the user's."""

    def __init__(self, quantizer: Quantizer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantizer = quantizer

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.state = self.quantizer.build(tf.TensorShape(shape), "weight", NamedWeights(self))

    def apply(self, weight: Tensor) -> Tensor:
        return self.quantizer(weight, not is_exporting(), self.state)

    def get_config(self) -> PlainDict:
        return {**super().get_config(), "quantizer": keras.saving.serialize_keras_object(self.quantizer)}

    @classmethod
    def from_config(cls, config: PlainDict) -> QuantizedWeight:
        return cls(**{**config, "quantizer": keras.saving.deserialize_keras_object(config["quantizer"])})
