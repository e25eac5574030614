"""quantize: quantization-aware training, whose trained ranges are the ones in the exported int8 file.

Reference: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2018, arXiv:1712.05877. Weights are rounded in ``transforms/fake_quant.py``, activations in
``quantization/ranges.py``; which activations, is in ``quantization/placement.py`` and ``quantization/lowering.py``.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

import keras

from tfgreen.checks import check_bool, check_integer, check_option
from tfgreen.config import Config, data_field, resolve_config
from tfgreen.errors import invalid_state, invalid_value, layer_subject
from tfgreen.model.paths import check_built_model, weights_by_path
from tfgreen.model.weights import quantizable_weights
from tfgreen.quantization.activation_quantizer import ActivationQuantizer
from tfgreen.quantization.calibrate import calibrate
from tfgreen.quantization.histogram import Calibration
from tfgreen.quantization.kernels import can_share_scale
from tfgreen.quantization.placement import Placement, place_activations
from tfgreen.quantization.ranges import ActivationRange, LearnedRange, MovingAverageRange
from tfgreen.techniques.cluster import codebook_of_values
from tfgreen.techniques.overrides import (
    check_are_patterns,
    check_layer_patterns,
    check_layers,
    check_matches,
    check_without,
    settings_for,
)
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.compressed import compressed_layers, has_transform
from tfgreen.transforms.fake_quant import FakeQuant
from tfgreen.transforms.lora import merged_value
from tfgreen.transforms.mask import Mask
from tfgreen.transforms.ties import tied_variables
from tfgreen.typing import Samples

if TYPE_CHECKING:
    from typing_extensions import Unpack

Ranges = Literal["moving_average", "learned", "fixed"]
_RANGES: dict[Ranges, type[ActivationRange]] = {
    "moving_average": MovingAverageRange, "learned": LearnedRange, "fixed": ActivationRange,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizeConfig(Config):
    """How to quantize.

    Attributes:
        calibration_data: A few hundred training samples: inputs of shape (samples, ...) in the structure the model
            takes, or an iterable of batches of them or of ``(inputs, targets)``, such as a ``tf.data.Dataset``.
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

    calibration_data: Samples | None = data_field()
    calibration: Calibration = "minmax"
    ranges: Ranges | ActivationRange = "moving_average"
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
        check_layers(self, of_model=("calibration_data", "keep_float", "preserve_clusters", "strict"))
        object.__setattr__(self, "keep_float", tuple(self.keep_float))
        check_option("calibration", self.calibration, get_args(Calibration))
        if not isinstance(self.ranges, ActivationRange) and self.ranges not in (*_RANGES,):
            expected = "'moving_average', 'learned', 'fixed' or a range such as tg.ActivationRange(bits=8)"
            raise invalid_value("ranges", expected=expected, received=repr(self.ranges))
        check_integer("weight_bits", self.weight_bits, minimum=2, maximum=8)
        check_option("activation_bits", self.activation_bits, (8, 16))
        check_integer("freeze_after", self.freeze_after, minimum=0, optional=True)
        for name in ("preserve_sparsity", "preserve_clusters", "strict"):
            check_bool(name, getattr(self, name))

    def for_layer(self, path: str) -> QuantizeConfig | None:
        """The config of a layer; None to keep it float."""
        stays_float = any(fnmatch.fnmatchcase(path, pattern) for pattern in self.keep_float)
        return None if stays_float else settings_for(path, self)

    def new_range(self) -> ActivationRange:
        """The range of which each place gets a copy."""
        if isinstance(self.ranges, ActivationRange):
            return self.ranges
        return _RANGES[self.ranges](bits=self.activation_bits)


class QuantizeOptions(TypedDict, total=False):
    """The fields of :class:`QuantizeConfig` as keyword arguments."""

    calibration_data: Samples | None
    calibration: Calibration
    ranges: Ranges | ActivationRange
    weight_bits: int
    activation_bits: int
    freeze_after: int | None
    preserve_sparsity: bool
    preserve_clusters: bool
    keep_float: tuple[str, ...]
    layers: Mapping[str, QuantizeConfig | None]
    strict: bool


def quantize(
    model: keras.Model, config: QuantizeConfig | None = None, **options: Unpack[QuantizeOptions]
) -> keras.Model:
    """Return a copy of ``model`` that computes as its int8 file will, and can be trained to do it well.

    Weights are rounded per output channel and activations wherever LiteRT rounds them, to ranges that start from
    calibration data, so that the copy scores what post-training quantization scores before any training. Compile and
    fit it, then ``tg.convert(quantized, quantization="int8")``: the file takes over the trained ranges without data.

    Args:
        model: Any built Keras 3 model; it may be pruned or clustered. It is not changed. A kernel whose channels share
            a codebook gets one scale, so that the file holds no more integers than it has clusters; where a
            BatchNormalization follows, channels with a negative gamma take their negatives, and kernels of other
            layers than Conv2D keep a scale per channel (fold it first: ``ClusterConfig(fold_batch_norm=True)``). Of a
            subclassed model only the weights are rounded here, the activations at conversion.
        config: How to quantize; ``calibration_data`` is required unless the model is subclassed.
        options: Fields of the config by name, which override it.

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
        >>> quantized = tg.quantize(model, calibration_data=data)
        >>> tg.convert(quantized, tg.ConvertConfig(quantization="int8")).operators["FULLY_CONNECTED"]
        1
    """
    config = resolve_config(QuantizeConfig, config, options)
    check_built_model(model)
    placements = place_activations(model, lambda path: config.for_layer(path) is None)
    _check_fits(config, placements)
    work = _Work(model, config, placements)
    result = compress(model, work.choose, work.hook)
    work.check_done()
    if placements:
        calibrate(result, config.calibration_data, lambda path: (config.for_layer(path) or config).calibration)
    return result


def _check_fits(config: QuantizeConfig, placements: Mapping[str, Placement]) -> None:
    """Raise unless a config fits a model, of which there are no placements if it is subclassed."""
    paths = list(placements) or [""]
    check_layer_patterns(paths, config.layers)
    for pattern in config.keep_float:
        check_matches("keep_float", pattern, paths)
    if config.strict and not placements:
        expected = "one whose layers are a graph, for strict=True"
        received = "a subclassed one, whose activations are rounded at conversion only"
        fix = "Leave it out here; tg.ConvertConfig(strict=True) checks the file."
        raise invalid_value("model", expected=expected, received=received, fix=fix)
    if placements and config.calibration_data is None:
        raise invalid_state(
            "calibration_data is missing: the ranges of the activations start from samples.",
            "Pass a few hundred training samples: tg.quantize(model, calibration_data=x[:512]).",
        )


_MORE_INTEGERS = "a BatchNormalization is fused and each channel has its scale: more integers than it has clusters"


class _Work:
    """What is added to each layer of a model, for :func:`tfgreen.transforms.compress.compress` to ask."""

    def __init__(self, model: keras.Model, config: QuantizeConfig, placements: Mapping[str, Placement]) -> None:
        self.config = config
        self.placements = placements
        self.tied = tied_variables(model)
        self.rounded = self.clustered = 0

    def choose(self, path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> Choice:
        """The rounding of the weights of a layer."""
        check_without(path, layer, chains, FakeQuant, "quantized")
        config = self.config.for_layer(path)
        found: dict[str, list[TensorTransform]] = {}
        if config is not None:
            for weight, axes in quantizable_weights(layer).items():
                found[weight] = self._transforms(path, layer, chains.get(weight, Chain(weight, [])), axes, config)
        self.rounded += len(found)
        return Choice(found)

    def _transforms(
        self, path: str, layer: keras.Layer, chain: Chain, axes: tuple[int, ...], config: QuantizeConfig
    ) -> list[TensorTransform]:
        variable, before = weights_by_path(layer)[chain.weight], chain.transforms
        shape, stored = tuple(variable.shape), merged_value(layer, variable)
        value = chain.apply(stored)
        axes = () if id(variable) in self.tied else axes  # what is a row to one reader is a column to another
        found: list[TensorTransform] = []
        codebook = next((item for item in before if isinstance(item, Codebook)), None)
        if self.config.preserve_clusters and codebook is None:
            codebook = codebook_of_values(f"{layer_subject(path, layer)}, '{chain.weight}'", stored, before, axes)
            found += [codebook] if codebook is not None else []
        self.clustered += codebook is not None
        fused = path in self.placements and self.placements[path].fused
        bits = config.weight_bits if axes else 8  # the table of an Embedding: LiteRT looks up 8 bits or floats
        note = ""
        if codebook is not None and not codebook.channel_axes:  # one scale keeps its values as so many integers
            note = _MORE_INTEGERS if axes and fused and not can_share_scale(layer) else ""
            axes = axes if note else ()
        rounding = FakeQuant(bits, axes, "max" if bits == 8 else "learned", marks_scale=not fused, note=note)
        rounding.build(shape)
        rounding.start_from(value)
        has_mask = any(isinstance(item, Mask) for item in before)
        if config.preserve_sparsity and not has_mask and bool(keras.ops.any(value == 0)):
            mask = Mask(schedule=None)
            mask.build(shape)
            mask.hold(value)
            found.insert(0, mask)
        return [*found, rounding]

    def hook(self, path: str, layer: keras.Operation) -> ActivationQuantizer | None:
        """The rounding of the activations of a layer or raw operation."""
        config, place = self.config.for_layer(path) or self.config, self.placements.get(path, Placement())
        if self.config.strict and place.reason and not place.keep_float:
            kind = "layer" if isinstance(layer, keras.Layer) else "operation"
            raise invalid_state(
                f"{kind} '{path}' ({type(layer).__name__}) is not computed in integers (strict=True): {place.reason}.",
                f"Ask for it with keep_float=('{path}',), or leave strict out.",
            )
        freezes = isinstance(layer, keras.layers.BatchNormalization) and config.freeze_after is not None
        if place == Placement() and not freezes:
            return None
        self.rounded += not place.keep_float
        return ActivationQuantizer(place, config.new_range(), config.freeze_after)

    def check_done(self) -> None:
        """Raise if nothing was found to be rounded, or no clusters to be kept."""
        if self.config.preserve_clusters and not self.clustered:
            fix = "Cluster it with tg.cluster first, or leave preserve_clusters out."
            raise invalid_state("The model has no kernel of at most 256 values for preserve_clusters=True.", fix)
        if not self.rounded:
            fix = "tg.summary(model) says why for each layer."
            raise invalid_state("The model has no layer that can be quantized.", fix)


def is_quantized(model: keras.Model) -> bool:
    """Whether any layer of a model is one that :func:`quantize` made."""
    rounds_activations = any(layer.activations is not None for _, layer in compressed_layers(model))
    return rounds_activations or has_transform(model, FakeQuant)
