"""TFMOT's ``QuantizeConfig``, registries and schemes: what a layer's weights and outputs are quantized by."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import keras

from tfgreen.compat.quantizers import LastValueQuantizer, MovingAverageQuantizer, Quantizer
from tfgreen.compat.told import raise_answer
from tfgreen.model.paths import weights_by_path
from tfgreen.model.weights import quantizable_weights
from tfgreen.quantization.lowering import OBSERVED, lowering_of
from tfgreen.quantization.op_classes import is_identity
from tfgreen.typing import PlainDict, Tensor


class QuantizeConfig(abc.ABC):
    """How one layer is quantized; register it with Keras to load models that hold it.

    The weights are quantized by the quantizers of ``get_weights_and_quantizers``. The output is quantized by the first
    of ``get_output_quantizers``, else of ``get_activations_and_quantizers``, wherever LiteRT rounds it. The methods
    ``set_...`` are TFMOT's: here a layer computes with quantized weights without setting them.
    """

    @abc.abstractmethod
    def get_weights_and_quantizers(self, layer: keras.Layer) -> list[tuple[keras.Variable, Quantizer]]:
        """The weights of the layer, which is built, and a quantizer for each."""

    @abc.abstractmethod
    def get_activations_and_quantizers(self, layer: keras.Layer) -> list[tuple[Callable[..., Any], Quantizer]]:
        """The activation functions of the layer and a quantizer for each."""

    @abc.abstractmethod
    def set_quantize_weights(self, layer: keras.Layer, quantize_weights: list[Tensor]) -> None:
        """Set the quantized weights; not called."""

    @abc.abstractmethod
    def set_quantize_activations(self, layer: keras.Layer, quantize_activations: list[Callable[..., Any]]) -> None:
        """Set the quantized activations; not called."""

    @abc.abstractmethod
    def get_output_quantizers(self, layer: keras.Layer) -> list[Quantizer]:
        """Quantizers of the outputs."""

    @abc.abstractmethod
    def get_config(self) -> PlainDict:
        """The arguments of the constructor."""

    @classmethod
    def from_config(cls, config: PlainDict) -> QuantizeConfig:
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfgreen")
class DefaultQuantizeConfig(QuantizeConfig):
    """Stands for what ``tg.quantize`` does to a layer by itself; its lists say what that comes to.

    Args:
        per_axis: Whether weights have a scale per output channel where LiteRT takes one.
        num_bits_weight: Of weights.
        num_bits_activation: Of activations.
    """

    def __init__(self, per_axis: bool = True, num_bits_weight: int = 8, num_bits_activation: int = 8) -> None:
        self.per_axis = per_axis
        self.num_bits_weight = num_bits_weight
        self.num_bits_activation = num_bits_activation

    def get_weights_and_quantizers(self, layer: keras.Layer) -> list[tuple[keras.Variable, Quantizer]]:
        weights = weights_by_path(layer)
        channels = quantizable_weights(layer).items()
        per_axis = {path: self.per_axis and bool(axes) for path, axes in channels}
        bits = self.num_bits_weight
        return [(weights[path], LastValueQuantizer(bits, each, True, True)) for path, each in per_axis.items()]

    def get_activations_and_quantizers(self, layer: keras.Layer) -> list[tuple[Callable[..., Any], Quantizer]]:
        activation = None if isinstance(layer, keras.layers.Activation) else getattr(layer, "activation", None)
        return [] if activation is None else [(activation, self._moving_average())]

    def set_quantize_weights(self, layer: keras.Layer, quantize_weights: list[Tensor]) -> None:
        """Nothing: weights are quantized without being set."""

    def set_quantize_activations(self, layer: keras.Layer, quantize_activations: list[Callable[..., Any]]) -> None:
        """Nothing: activations are quantized without being set."""

    def get_output_quantizers(self, layer: keras.Layer) -> list[Quantizer]:
        if getattr(layer, "activation", None) is not None and not isinstance(layer, keras.layers.Activation):
            return []  # among the activations
        row = lowering_of(layer)
        rounds = row.output == OBSERVED and not row.reason and not is_identity(layer)
        return [self._moving_average()] if rounds else []

    def _moving_average(self) -> MovingAverageQuantizer:
        return MovingAverageQuantizer(self.num_bits_activation, False, False, False)

    def get_config(self) -> PlainDict:
        return {name: getattr(self, name) for name in ("per_axis", "num_bits_weight", "num_bits_activation")}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash(str(self.get_config()))


class QuantizeRegistry(abc.ABC):
    """Base of a registry of one's own: which :class:`QuantizeConfig` a layer gets."""

    @abc.abstractmethod
    def get_quantize_config(self, layer: keras.Layer) -> QuantizeConfig:
        """The config of a layer, which is built."""

    def supports(self, layer: keras.Layer) -> bool:
        """Whether it has a config for a layer; the others are quantized as ``tg.quantize`` does."""
        return True


class QuantizeLayoutTransform(abc.ABC):
    """Base of TFMOT's rewriting of models, which tfgreen does not need: it places ranges where LiteRT rounds."""

    def apply(self, model: keras.Model, layer_quantize_map: dict[str, Any]) -> tuple[keras.Model, dict[str, Any]]:
        """Raise: there are no layout transforms."""
        way = "tg.quantize places ranges where LiteRT rounds, without rewriting the model."
        raise_answer(f"{type(self).__name__}.apply", way)


class QuantizeScheme(abc.ABC):
    """Base of a scheme of one's own, of which the registry counts."""

    @abc.abstractmethod
    def get_layout_transformer(self) -> QuantizeLayoutTransform:
        """The rewriting of the model: one of one's own is refused."""

    @abc.abstractmethod
    def get_quantize_registry(self) -> QuantizeRegistry:
        """The registry that gives the layers their configs."""

    def settings(self) -> PlainDict:
        """Fields of ``tg.QuantizeConfig`` that the scheme stands for."""
        return {}


def check_own_layout(scheme: QuantizeScheme) -> None:
    """Refuse a scheme that rewrites models, which would not be done."""
    layout = scheme.get_layout_transformer()
    if layout is not None and type(layout).apply is not QuantizeLayoutTransform.apply:
        way = (
            "Replace layers with keras.models.clone_model(model, clone_function=...) before it is quantized, and "
            "return QuantizeLayoutTransform() from get_layout_transformer."
        )
        raise_answer(f"{type(layout).__name__}, a layout transform of one's own,", way)


class Default8BitQuantizeLayoutTransform(QuantizeLayoutTransform):
    """Stands for the place of TFMOT's rewriting."""


class DefaultNBitQuantizeLayoutTransform(QuantizeLayoutTransform):
    """Stands for the place of TFMOT's rewriting."""

    def __init__(self, num_bits_weight: int = 8, num_bits_activation: int = 8) -> None:
        self.num_bits_weight = num_bits_weight
        self.num_bits_activation = num_bits_activation


class Default8BitQuantizeRegistry(QuantizeRegistry):
    """Every layer as ``tg.quantize`` does it."""

    def __init__(self, disable_per_axis: bool = False) -> None:
        self.disable_per_axis = disable_per_axis

    def get_quantize_config(self, layer: keras.Layer) -> QuantizeConfig:
        return DefaultQuantizeConfig(not self.disable_per_axis)


class DefaultNBitQuantizeRegistry(Default8BitQuantizeRegistry):
    """Every layer as ``tg.quantize`` does it, in the bits of the scheme."""

    def __init__(
        self, disable_per_axis: bool = False, num_bits_weight: int = 8, num_bits_activation: int = 8
    ) -> None:
        super().__init__(disable_per_axis)
        self.num_bits_weight = num_bits_weight
        self.num_bits_activation = num_bits_activation

    def get_quantize_config(self, layer: keras.Layer) -> QuantizeConfig:
        return DefaultQuantizeConfig(not self.disable_per_axis, self.num_bits_weight, self.num_bits_activation)


class Default8BitQuantizeScheme(QuantizeScheme):
    """8 bits everywhere.

    Args:
        disable_per_axis: Whether a weight has one scale, and none per output channel.
    """

    def __init__(self, disable_per_axis: bool = False) -> None:
        self.disable_per_axis = disable_per_axis

    def get_layout_transformer(self) -> QuantizeLayoutTransform:
        return Default8BitQuantizeLayoutTransform()

    def get_quantize_registry(self) -> QuantizeRegistry:
        return Default8BitQuantizeRegistry(self.disable_per_axis)

    def settings(self) -> PlainDict:
        return {"weight_granularity": "per_tensor"} if self.disable_per_axis else {}


class DefaultNBitQuantizeScheme(Default8BitQuantizeScheme):
    """2 to 8 bits for weights, 2 to 8 or 16 for activations; LiteRT stores the latter in 8 or 16.

    Args:
        disable_per_axis: Whether a weight has one scale, and none per output channel.
        num_bits_weight: Of weights.
        num_bits_activation: Of activations.
    """

    def __init__(
        self, disable_per_axis: bool = False, num_bits_weight: int = 8, num_bits_activation: int = 8
    ) -> None:
        super().__init__(disable_per_axis)
        self.num_bits_weight = num_bits_weight
        self.num_bits_activation = num_bits_activation

    def get_quantize_registry(self) -> QuantizeRegistry:
        return DefaultNBitQuantizeRegistry(self.disable_per_axis, self.num_bits_weight, self.num_bits_activation)

    def settings(self) -> PlainDict:
        bits = {"weight_bits": self.num_bits_weight, "activation_bits": self.num_bits_activation}
        return {**super().settings(), **bits}


class Default8BitPrunePreserveQuantizeScheme(Default8BitQuantizeScheme):
    """8 bits, and the zeros of a model that was pruned and stripped stay zeros."""

    def settings(self) -> PlainDict:
        return {**super().settings(), "preserve_sparsity": True}


class Default8BitClusterPreserveQuantizeScheme(Default8BitQuantizeScheme):
    """8 bits, and the shared values of a model that was clustered and stripped stay shared.

    Args:
        preserve_sparsity: Whether its zeros stay zeros, too.
    """

    def __init__(self, preserve_sparsity: bool = True) -> None:
        super().__init__()
        self.preserve_sparsity = preserve_sparsity

    def settings(self) -> PlainDict:
        return {"preserve_clusters": True, "preserve_sparsity": self.preserve_sparsity}
