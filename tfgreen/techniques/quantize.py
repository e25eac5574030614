"""quantize: quantization-aware training, whose trained ranges are the ones in the exported int8 file.

Reference: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2018, arXiv:1712.05877. Weights are rounded in ``transforms/fake_quant.py``, activations in
``quantization/ranges.py``; which activations, is in ``quantization/placement.py`` and ``quantization/lowering.py``.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import numbers
from collections.abc import Mapping
from typing import Any

import keras

from tfgreen.config import Config, data_field
from tfgreen.errors import invalid_type, invalid_value, layer_subject
from tfgreen.model.internals import is_container
from tfgreen.model.paths import check_built_model, replaceable_layers, weights_by_path
from tfgreen.model.weights import quantizable_weights
from tfgreen.quantization.accumulator import can_share_scale
from tfgreen.quantization.activation_quantizer import QuantizedActivations
from tfgreen.quantization.calibrate import calibrate
from tfgreen.quantization.histogram import METHODS
from tfgreen.quantization.placement import Places, places_to_round
from tfgreen.quantization.ranges import ActivationRange, LearnedRange, MovingAverageRange
from tfgreen.techniques.cluster import hold_clusters
from tfgreen.techniques.overrides import (
    check_are_patterns,
    check_layer_patterns,
    check_layers,
    check_matches,
    settings_for,
)
from tfgreen.techniques.strip import strip
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compressed import Choice, Compressed, compress, compressed_layers
from tfgreen.transforms.fake_quant import FakeQuant
from tfgreen.transforms.mask import Mask

RANGES = {"moving_average": MovingAverageRange, "learned": LearnedRange, "fixed": ActivationRange}


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizeConfig(Config):
    """How to quantize.

    Attributes:
        calibration_data: Inputs of shape (samples, ...) in the structure the model takes, or an iterable of batches of
            them (or of ``(inputs, targets)``), such as a ``tf.data.Dataset`` or ``PyDataset``: a few hundred training
            samples.
        calibration: The range a tensor starts with: ``"minmax"`` of what calibration saw, ``"percentile"`` (without the
            outermost 0.01 % at either end), or ``"mse"`` (of the least squared error).
        ranges: What moves the ranges of activations while training: ``"moving_average"`` of the batches' extremes,
            ``"learned"`` by gradient (LSQ), ``"fixed"``, or an instance of a :class:`tfgreen.ActivationRange`.
        weight_bits: 2 to 8, of kernels; embeddings have 8. Below 8 the scale of a weight is learned too.
        activation_bits: 8, or 16 to be converted with ``quantization="int16x8"``, for which the converter needs
            calibration data again.
        freeze_after: Number of training batches after which ranges and BatchNormalization statistics stay as they are;
            None for never. Needs ``tg.UpdateCompression()`` among the callbacks.
        preserve_sparsity: Keep the zeros of a weight that was pruned and stripped. A model that still holds its masks
            keeps them anyway.
        preserve_clusters: Keep the shared values of a kernel that was clustered and stripped: one of at most 256
            values. A model that still holds its codebooks keeps them anyway.
        keep_float: Patterns of layers (``"head*"``) that compute in float32, in the converted file too.
        layers: Name pattern -> another ``QuantizeConfig`` for the layers it matches, or None to keep them float. The
            first that matches counts. Overrides do not nest, and say nothing of data, ``keep_float``,
            ``preserve_clusters`` and ``strict``.
        strict: Whether a layer that LiteRT computes in float32 is an error, unless it was asked for.

    Raises:
        ValueError, TypeError: A setting is out of range or of another type.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.QuantizeConfig(ranges="learned", keep_float=("stem",), layers={"head": None})
        >>> tg.QuantizeConfig.from_dict(config.to_dict()) == config
        True
    """

    calibration_data: Any = data_field()
    calibration: str = "percentile"
    ranges: Any = "moving_average"
    weight_bits: int = 8
    activation_bits: int = 8
    freeze_after: int | None = None
    preserve_sparsity: bool = False
    preserve_clusters: bool = False
    keep_float: tuple[str, ...] = ()
    layers: Mapping[str, QuantizeConfig | None] = dataclasses.field(default_factory=dict)
    strict: bool = False

    def __post_init__(self) -> None:
        check_are_patterns("keep_float", self.keep_float, "head*")
        check_layers(self)
        object.__setattr__(self, "keep_float", tuple(self.keep_float))
        object.__setattr__(self, "layers", dict(self.layers))
        if self.calibration not in METHODS:
            raise invalid_value("calibration", expected=f"one of {METHODS}", received=repr(self.calibration))
        if not isinstance(self.ranges, ActivationRange) and self.ranges not in tuple(RANGES):
            expected = f"one of {tuple(RANGES)} or a tg.ActivationRange"
            raise invalid_value("ranges", expected=expected, received=repr(self.ranges))
        _check_integer("weight_bits", self.weight_bits, range(2, 9), "an integer from 2 to 8")
        _check_integer("activation_bits", self.activation_bits, (8, 16), "8 or 16")
        if self.freeze_after is not None:
            expected = "a number of batches >= 0 or None"
            _check_integer("freeze_after", self.freeze_after, range(2**62), expected)
        for name in ("preserve_sparsity", "preserve_clusters", "strict"):
            if not isinstance(getattr(self, name), bool):
                raise invalid_type(name, expected="True or False", received=getattr(self, name))
        for pattern, override in self.layers.items():
            for name in ("calibration_data", "keep_float", "preserve_clusters", "strict"):
                if override is not None and getattr(override, name):
                    raise invalid_value(
                        f"layers['{pattern}']", expected=f"no {name} of its own", received=getattr(override, name),
                        fix=f"Set {name} for the whole model.",
                    )  # fmt: skip

    def for_layer(self, path: str) -> QuantizeConfig | None:
        """The settings of a layer; None to keep it float."""
        kept = any(fnmatch.fnmatchcase(path, pattern) for pattern in self.keep_float)
        return None if kept else settings_for(path, self)

    def new_range(self) -> ActivationRange:
        """The range of which each place gets a copy."""
        if isinstance(self.ranges, ActivationRange):
            return self.ranges
        return RANGES[self.ranges](bits=self.activation_bits)


def _check_integer(name: str, value: Any, allowed: Any, expected: str) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value not in allowed:
        raise invalid_value(name, expected=expected, received=value)


def quantize(model: keras.Model, config: QuantizeConfig) -> keras.Model:
    """Return a copy of ``model`` that computes as its int8 file will, and can be trained to do it well.

    Weights are rounded per output channel and activations wherever LiteRT rounds them, to ranges that start from
    calibration data, so that the copy scores what post-training quantization scores before any training. Compile and
    fit it, then ``tg.convert(quantized, tg.ConvertConfig(quantization="int8"))``: the file takes over the trained
    ranges and needs no data.

    Args:
        model: Any built Keras 3 model; it may be pruned or clustered. It is not changed. A kernel whose channels share
            a codebook gets one scale, so that the file holds no more integers than it has clusters; where a
            BatchNormalization follows, channels with a negative gamma take their negatives, and kernels of other
            layers than Conv2D keep a scale per channel (fold it first: ``ClusterConfig(fold_batch_norm=True)``). A
            subclassed model runs its layers in code, so only its weights are rounded; its activations are calibrated at
            conversion.
        config: How to quantize; ``calibration_data`` is required unless the model is subclassed.

    Returns:
        A model of the same layers, names and shapes, not compiled.

    Raises:
        TypeError: ``model`` or ``config`` is of another type.
        ValueError: The model is not built or quantized already, a pattern matches nothing, the calibration data is
            missing, empty, of another shape or not finite, ``strict`` and a layer stays float32 or the model is
            subclassed, ``preserve_clusters`` and no kernel is clustered, or nothing can be quantized. The layer is
            named.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> data = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> quantized = tg.quantize(model, tg.QuantizeConfig(calibration_data=data))
        >>> tg.convert(quantized, tg.ConvertConfig(quantization="int8")).operators["FULLY_CONNECTED"]
        1
    """
    if not isinstance(config, QuantizeConfig):
        raise invalid_type("config", expected="a tg.QuantizeConfig", received=config)
    check_built_model(model)
    _check_not_quantized(model)
    places = _places(model, config)
    _check_patterns(model, config, places)
    if config.strict:
        _check_strict(model, places)
    if places and config.calibration_data is None:
        raise invalid_value(
            "calibration_data", expected="samples to start the ranges of the activations from", received="none",
            fix="Pass a few hundred training samples: QuantizeConfig(calibration_data=x[:512]).",
        )  # fmt: skip

    if config.preserve_clusters:
        model = hold_clusters(model, lambda path: config.for_layer(path) is not None)

    def folds(path: str) -> bool:
        return places.get(path, Places()).folds

    shared = {
        path
        for path, layer in compressed_layers(model)
        if (can_share_scale(layer.layer) or not folds(path))
        and any(_shares_values(chain) for chain in layer.chains)
    }

    def weights(path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> Choice:
        chosen = config.for_layer(path)
        if chosen is None:
            return Choice()
        return Choice(_rounded_weights(layer, chains, chosen, path in shared, folds(path)))

    def activations(path: str, layer: keras.Operation) -> QuantizedActivations | None:
        chosen, place = config.for_layer(path) or config, places.get(path, Places())
        freezes = isinstance(layer, keras.layers.BatchNormalization) and chosen.freeze_after is not None
        if not place.any and not freezes:
            return None
        return QuantizedActivations(
            chosen.new_range(), place.inputs, place.inside, place.output, place.merges, place.folds, place.kept,
            place.apart, chosen.freeze_after, chosen.weight_bits, path in shared, place.reason,
        )  # fmt: skip

    result = compress(model, weights, activations)
    if all(_is_kept(layer) for _, layer in compressed_layers(result)):
        raise invalid_value(
            f"model '{model.name}'", expected="at least one layer that can be quantized", received="none",
            fix="tg.summary(model) says why for each layer.",
        )  # fmt: skip
    if places:
        calibrate(result, config.calibration_data, lambda path: (config.for_layer(path) or config).calibration)
    return result


def _places(model: keras.Model, config: QuantizeConfig) -> dict[str, Places]:
    """Where to round, by path, judged by the layers inside compressed ones; nowhere in a subclassed model."""
    if not is_container(model):
        return {}
    return places_to_round(strip(model), lambda path: config.for_layer(path) is None)


_MORE_INTEGERS = (
    "a BatchNormalization is merged into it and each channel has its scale: more integers than it has clusters"
)


def _rounded_weights(
    layer: keras.Layer, chains: Mapping[str, Chain], config: QuantizeConfig, one_scale: bool, folds: bool
) -> dict[str, list[TensorTransform]]:
    found: dict[str, list[TensorTransform]] = {}
    variables = weights_by_path(layer)
    for weight, axes in quantizable_weights(layer).items():
        chain, value = chains.get(weight), variables[weight].value
        masked = chain is not None and any(isinstance(transform, Mask) for transform in chain.transforms)
        if chain is not None:
            value = chain.apply(value)
        bits = config.weight_bits if axes else 8  # the table of an Embedding: LiteRT looks up 8 bits or floats
        shares = chain is not None and _shares_values(chain)
        axes = () if one_scale and shares else axes
        note = _MORE_INTEGERS if shares and folds and axes else ""
        quant = FakeQuant(bits, axes, "max" if bits == 8 else "learned", told=not folds, note=note)
        quant.build(tuple(variables[weight].shape))
        quant.start_from(value)
        found[weight] = [quant]
        if config.preserve_sparsity and not masked:
            mask = Mask(schedule=None)
            mask.build(tuple(variables[weight].shape))
            mask.hold(value)
            found[weight].insert(0, mask)
    return found


def _shares_values(chain: Chain) -> bool:
    """Whether all channels of a weight share one codebook. One scale then keeps its values as so many integers."""
    return any(isinstance(transform, Codebook) and not transform.channel_axes for transform in chain.transforms)


def _is_kept(layer: Compressed) -> bool:
    return layer.activations is not None and bool(layer.activations.places["kept"])


def is_quantized(model: keras.Model) -> bool:
    """Whether any layer of a model is one that :func:`quantize` made."""
    return any(_is_quantized(layer) for _, layer in compressed_layers(model))


def _is_quantized(layer: Compressed) -> bool:
    transforms = [transform for chain in layer.chains for transform in chain.transforms]
    return layer.activations is not None or any(isinstance(transform, FakeQuant) for transform in transforms)


def _check_not_quantized(model: keras.Model) -> None:
    for path, layer in compressed_layers(model):
        if _is_quantized(layer):
            raise invalid_value(
                layer_subject(path, layer.layer), expected="a layer that is not quantized", received="a quantized one",
                fix="Bake it with tg.strip(model) to quantize it again.",
            )  # fmt: skip


def _check_patterns(model: keras.Model, config: QuantizeConfig, places: Mapping[str, Places]) -> None:
    paths = list(dict.fromkeys([*(path for path, _ in replaceable_layers(model)), *places]))  # raw operations too
    check_layer_patterns(paths, config.layers)
    for pattern in config.keep_float:
        check_matches("keep_float", pattern, paths)


def _check_strict(model: keras.Model, places: Mapping[str, Places]) -> None:
    if not is_container(model):
        raise invalid_value(
            f"model '{model.name}'", expected="a model whose layers are a graph, for strict=True",
            received="a subclassed one, whose activations are rounded at conversion only",
            fix="Leave it out here; tg.ConvertConfig(strict=True) checks the file.",
        )  # fmt: skip
    layers = dict(replaceable_layers(model))
    for path, place in places.items():
        if place.reason and not place.kept:
            layer = getattr(layers.get(path), "stands_for", layers.get(path))
            raise invalid_value(
                layer_subject(path, layer) if layer is not None else f"operation '{path}'",
                expected="one that LiteRT computes in integers (strict=True)", received=f"one of which {place.reason}"
            )
