"""Ranges of activations without calibration data: from the first training batch on, or by a quantizer of the user's."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfgreen.compat.quantizers import AllValuesQuantizer, FixedQuantizer, Quantizer, RangeQuantizer
from tfgreen.errors import invalid_state
from tfgreen.quantization.ranges import ActivationRange, FixedRange, MovingAverageRange
from tfgreen.transforms.exporting import is_exporting
from tfgreen.typing import PlainDict, Shape, Tensor

# What TensorFlow calls the graph of a function that it traces to save a model.
_EXPORTS = ("serving_default",)


@keras.saving.register_keras_serializable(package="tfgreen")
class FirstBatchRange(MovingAverageRange):
    """A range that starts from the first training batch; nothing is rounded before that, unless data calibrated it."""

    needs_data = False

    def build(self, input_shape: Shape | None = None) -> None:
        super().build(input_shape)
        self.seen = self.add_weight(shape=(), dtype="bool", initializer="zeros", trainable=False, name="seen")

    def set(self, lower: float, upper: float) -> None:
        super().set(lower, upper)
        self.seen.assign(True)

    @property
    def is_set(self) -> bool:
        return bool(self.seen.numpy())

    def follow(self, x: Tensor) -> None:
        seen, empty = self.seen.value, ops.max(ops.abs(x)) == 0
        ends = ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)
        super().follow(x)
        for variable, end in zip((self.lower, self.upper), ends):
            variable.assign(ops.where(ops.logical_or(seen, empty), variable.value, end))
        self.seen.assign(ops.logical_or(seen, ops.logical_not(empty)))

    def round(self, x: Tensor, training: bool = False) -> Tensor:
        if is_exporting():
            with tf.init_scope():
                is_set = self.is_set
            if not is_set:
                raise invalid_state(
                    "The quantized model has not seen a training batch, so that its activations have no ranges.",
                    "Fit it, or pass calibration_data=x[:512] to quantize_model or quantize_apply.",
                )
            return super().round(x, training)
        if not (training or tf.executing_eagerly()) and tf.compat.v1.get_default_graph().name in _EXPORTS:
            warnings.warn(
                "A quantized model is being exported otherwise than by tfgreen, so that the file computes the rounding "
                "in floats beside its integers. Use tg.convert(model, quantization='int8').",
                stacklevel=2,
            )
        return ops.where(self.seen, super().round(x, training), x)


@keras.saving.register_keras_serializable(package="tfgreen")
class AllValuesRange(FirstBatchRange):
    """The extremes of all training batches so far."""

    def follow(self, x: Tensor) -> None:
        lower, upper, seen = self.lower.value, self.upper.value, self.seen.value
        super().follow(x)
        self.lower.assign(ops.where(seen, ops.minimum(lower, ops.min(x)), self.lower.value))
        self.upper.assign(ops.where(seen, ops.maximum(upper, ops.max(x)), self.upper.value))


@keras.saving.register_keras_serializable(package="tfgreen")
class QuantizerRange(FirstBatchRange):
    """A quantizer of the user's on the output of a layer, and then the rounding that the file does.

    What the layer takes in is not its config's to say: there a plain range stands.
    """

    def __init__(self, quantizer: Quantizer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantizer = quantizer

    def build(self, input_shape: Shape | None = None) -> None:
        super().build(input_shape)
        self.state = self.quantizer.build(tf.TensorShape(None), "activation", NamedWeights(self))

    def follow(self, x: Tensor) -> None:
        super().follow(self.quantizer(x, False, self.state))

    def round(self, x: Tensor, training: bool = False) -> Tensor:
        return super().round(self.quantizer(x, training, self.state), training)

    def get_config(self) -> PlainDict:
        return {**super().get_config(), "quantizer": keras.saving.serialize_keras_object(self.quantizer)}

    @classmethod
    def from_config(cls, config: PlainDict) -> ActivationRange:
        config = dict(config)
        quantizer = keras.saving.deserialize_keras_object(config.pop("quantizer"))
        return _plain_or(lambda **given: cls(quantizer, **given), config)


@keras.saving.register_keras_serializable(package="tfgreen")
class GivenRange(FixedRange):
    """A range that a ``FixedQuantizer`` gives to the output of a layer."""

    needs_data = False

    @classmethod
    def from_config(cls, config: PlainDict) -> ActivationRange:
        return _plain_or(cls, config)


def _plain_or(make: Any, config: PlainDict) -> ActivationRange:
    if str(config.get("name", "")).startswith("input_"):
        return FirstBatchRange(name=config["name"])
    return make(**config)


@keras.saving.register_keras_serializable(package="tfgreen")
class FileRange(AllValuesRange):
    """The range of an output to which a config gives no quantizer: the model passes it on, the file rounds it.

    It holds all that training has seen, as the model gives nothing up at its ends.

    What the layer takes in is not its config's to say: there a plain range stands.
    """

    only_in_file = True

    def round(self, x: Tensor, training: bool = False) -> Tensor:
        return super().round(x, training) if is_exporting() else x

    @classmethod
    def from_config(cls, config: PlainDict) -> ActivationRange:
        return _plain_or(cls, config)


class NamedWeights:
    """What a quantizer gets as the layer to add its weights to: TFMOT's ``add_weight`` takes the name first."""

    def __init__(self, layer: keras.Layer) -> None:
        self._layer = layer

    def add_weight(self, name: str, shape: Shape = (), **kwargs: Any) -> keras.Variable:
        """A variable of the layer."""
        return self._layer.add_weight(shape=tuple(shape or ()), name=name, **kwargs)

    def __getattr__(self, name: str) -> object:
        return getattr(self._layer, name)


def as_range(quantizer: Quantizer) -> ActivationRange:
    """The range that rounds an output as a quantizer does."""
    if isinstance(quantizer, FixedQuantizer):
        return GivenRange(quantizer.init_min, quantizer.init_max, bits=quantizer.num_bits)
    if not isinstance(quantizer, RangeQuantizer) or not quantizer.is_own:
        return QuantizerRange(quantizer)
    kind = AllValuesRange if isinstance(quantizer, AllValuesQuantizer) else FirstBatchRange
    momentum = quantizer.momentum if kind is FirstBatchRange else 0.0
    return kind(momentum, bits=quantizer.num_bits, symmetric=quantizer.symmetric)
