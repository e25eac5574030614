"""TFMOT's quantizers: what a :class:`QuantizeConfig` of the user's gives for a weight or an activation."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfgreen.checks import check_integer
from tfgreen.errors import invalid_value
from tfgreen.typing import PlainDict, Tensor


class Quantizer(abc.ABC):
    """Base of a quantizer of one's own; register it with Keras to load models that hold it."""

    @abc.abstractmethod
    def build(self, tensor_shape: tf.TensorShape, name: str, layer: Any) -> Mapping[str, Any]:
        """Add the variables with ``layer.add_weight(name + "_min", ...)`` and return them by name."""

    @abc.abstractmethod
    def __call__(self, inputs: Tensor, training: bool, weights: Mapping[str, Any], **kwargs: Any) -> Tensor:
        """The inputs quantized; ``weights`` is what ``build`` returned. A weight is always quantized as in training."""

    @abc.abstractmethod
    def get_config(self) -> PlainDict:
        """The arguments of the constructor."""

    @classmethod
    def from_config(cls, config: PlainDict) -> Quantizer:
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), str(self.get_config())))


class RangeQuantizer(Quantizer):
    """Rounds to the values between two ends that a subclass finds from each training batch.

    Until a training batch has come, nothing is rounded.

    Args:
        num_bits: 2 to 16.
        per_axis: Whether each index of the last axis has ends of its own.
        symmetric: Whether the ends lie symmetrically around 0.
        narrow_range: Whether the lowest integer is left out.
    """

    momentum = 0.0  # of the old ends

    def __init__(self, num_bits: int, per_axis: bool, symmetric: bool, narrow_range: bool) -> None:
        check_integer("num_bits", num_bits, minimum=2, maximum=16)
        self.num_bits = num_bits
        self.per_axis = per_axis
        self.symmetric = symmetric
        self.narrow_range = narrow_range

    @property
    def is_own(self) -> bool:
        """Whether it rounds as the classes of this module do: no subclass of the user's has another way."""
        return type(self).__call__ is RangeQuantizer.__call__ and type(self).__module__ == __name__

    @property
    def fits_weights(self) -> bool:
        """Whether LiteRT stores the weights that it rounds, of the extremes of the weight, as they are."""
        return self.is_own and self.symmetric and self.num_bits <= 8

    def build(self, tensor_shape: tf.TensorShape, name: str, layer: Any) -> Mapping[str, Any]:
        shape = (tensor_shape[-1],) if self.per_axis else ()
        ends = {"min_var": f"{name}_min", "max_var": f"{name}_max"}
        return {
            key: layer.add_weight(end, shape=shape, initializer="zeros", trainable=False) for key, end in ends.items()
        }

    def ends(self, lower: Tensor, upper: Tensor, old: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The ends after a batch of these extremes, which include 0, where they were the old ones before it."""
        return lower, upper

    def __call__(self, inputs: Tensor, training: bool, weights: Mapping[str, Any], **kwargs: Any) -> Tensor:
        inputs = tf.convert_to_tensor(inputs)
        lower, upper = (tf.convert_to_tensor(weights[name]) for name in ("min_var", "max_var"))
        if training:
            axes = list(range(len(inputs.shape) - self.per_axis)) if inputs.shape.rank is not None else None
            found = tf.minimum(tf.reduce_min(inputs, axes), 0.0), tf.maximum(tf.reduce_max(inputs, axes), 0.0)
            if self.symmetric:
                share = 1.0 if self.narrow_range else 1.0 - 2.0 ** (1 - self.num_bits)
                low = tf.minimum(found[0], -found[1] / share)
                found = low, -low * share
            moved, unset = self.ends(*found, (lower, upper)), lower == upper
            lower, upper = (tf.stop_gradient(tf.where(unset, new, then)) for new, then in zip(found, moved))
            weights["min_var"].assign(lower)
            weights["max_var"].assign(upper)
        round_to = tf.quantization.fake_quant_with_min_max_vars
        if self.per_axis:
            round_to = tf.quantization.fake_quant_with_min_max_vars_per_channel
        rounded = round_to(inputs, lower, upper, num_bits=self.num_bits, narrow_range=self.narrow_range)
        return tf.where(lower == upper, inputs, rounded)

    def get_config(self) -> PlainDict:
        names = ("num_bits", "per_axis", "symmetric", "narrow_range")
        return {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="tfgreen")
class LastValueQuantizer(RangeQuantizer):
    """Rounds between the extremes of the last training batch, or of a weight as it is.

    Example:
        >>> LastValueQuantizer(8, per_axis=False, symmetric=True, narrow_range=True).get_config()["num_bits"]
        8
    """


@keras.saving.register_keras_serializable(package="tfgreen")
class MovingAverageQuantizer(RangeQuantizer):
    """Rounds between moving averages of the extremes, from those of the first training batch on."""

    momentum = 0.99

    def ends(self, lower: Tensor, upper: Tensor, old: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        new = 1 - self.momentum
        return self.momentum * old[0] + new * lower, self.momentum * old[1] + new * upper


@keras.saving.register_keras_serializable(package="tfgreen")
class AllValuesQuantizer(RangeQuantizer):
    """Rounds between the extremes of all training batches."""

    def ends(self, lower: Tensor, upper: Tensor, old: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return tf.minimum(lower, old[0]), tf.maximum(upper, old[1])


@keras.saving.register_keras_serializable(package="tfgreen")
class FixedQuantizer(Quantizer):
    """Rounds to the values of ``num_bits`` between two ends that are given, and that have 0 between them."""

    def __init__(self, num_bits: int, init_min: float, init_max: float, narrow_range: bool) -> None:
        check_integer("num_bits", num_bits, minimum=2, maximum=16)
        if not init_min <= 0 <= init_max or init_min == init_max:
            expected, received = "init_min <= 0 <= init_max, which differ", f"{init_min} and {init_max}"
            raise invalid_value("FixedQuantizer", expected=expected, received=received)
        self.num_bits = num_bits
        self.init_min = init_min
        self.init_max = init_max
        self.narrow_range = narrow_range

    def build(self, tensor_shape: tf.TensorShape, name: str, layer: Any) -> Mapping[str, Any]:
        return {}

    def __call__(self, inputs: Tensor, training: bool, weights: Mapping[str, Any], **kwargs: Any) -> Tensor:
        return tf.quantization.fake_quant_with_min_max_args(
            inputs, self.init_min, self.init_max, num_bits=self.num_bits, narrow_range=self.narrow_range
        )

    def get_config(self) -> PlainDict:
        return {name: getattr(self, name) for name in ("num_bits", "init_min", "init_max", "narrow_range")}
