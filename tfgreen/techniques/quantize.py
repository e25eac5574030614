"""quantize: quantization-aware training, whose trained ranges are the ones in the exported int8 file.

Reference: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", 2018, arXiv:1712.05877. Weights are rounded in ``transforms/fake_quant.py``, activations in
``quantization/ranges.py``; which activations, is in ``quantization/placement.py`` and ``quantization/lowering.py``.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfgreen.config import resolve_config
from tfgreen.errors import InvalidValueError, invalid_state, invalid_value, layer_subject
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.graph import LayerGraph, LayerNode
from tfgreen.model.internals import is_container
from tfgreen.model.paths import check_built_model, naming_dtypes, paths_by_name, walk, weights_by_path
from tfgreen.model.samples import sample_batches
from tfgreen.model.weights import quantizable_weights
from tfgreen.quantization.activation_quantizer import ActivationQuantizer
from tfgreen.quantization.calibrate import calibrate
from tfgreen.quantization.kernels import can_share_scale, has_costly_scales
from tfgreen.quantization.lowering import OBSERVED
from tfgreen.quantization.masked_scores import masked_operations
from tfgreen.quantization.op_classes import inner_operation, is_pass_through
from tfgreen.quantization.opened import opened
from tfgreen.quantization.placement import Placement, place_activations
from tfgreen.structure import CallSpec, pack
from tfgreen.techniques.cluster import codebook_of_values
from tfgreen.techniques.overrides import check_layer_patterns, check_matches, check_without, with_aliases
from tfgreen.techniques.quantize_config import QuantizeConfig, QuantizeOptions
from tfgreen.techniques.shared_scales import (
    LOST,
    Retry,
    input_scale_loss,
    layer_loss,
    output_noise,
    shared_scale_loss,
)
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.compressed import compressed_layers, has_transform
from tfgreen.transforms.fake_quant import FakeQuant
from tfgreen.transforms.integer_weights import IntegerWeights
from tfgreen.transforms.lora import merged_value
from tfgreen.transforms.mask import Mask
from tfgreen.transforms.ties import tied_variables

if TYPE_CHECKING:
    from typing_extensions import Unpack


def quantize(
    model: keras.Model, config: QuantizeConfig | None = None, **options: Unpack[QuantizeOptions]
) -> keras.Model:
    """Return a copy of ``model`` that computes as its int8 file will, and can be trained to do it well.

    Weights are rounded per output channel and activations wherever LiteRT rounds them, to ranges that start from
    calibration data, so that the copy scores what post-training quantization scores before any training. Compile and
    fit it, then ``tg.convert(quantized, quantization="int8")``: the file takes over the trained ranges without data.
    Train the model first: ranges begin at what it returns for the calibration data and follow slowly, so that they hold
    a model back whose outputs are yet to grow.

    Args:
        model: Any built Keras 3 model; it may be pruned or clustered. It is not changed. A kernel whose channels share
            a codebook gets one scale, so that the file holds no more integers than it has clusters; where a
            BatchNormalization follows, channels with a negative gamma take their negatives, and kernels of other
            layers than Conv2D keep a scale per channel (fold it first: ``ClusterConfig(fold_batch_norm=True)``). Layers
            that are made of layers by code (a block of yours, KerasHub's) become nested models of their names, if their
            code can be read, and functional models of any class plain ones. Of a subclassed model only the weights are
            rounded here, the activations at conversion.
        config: How to quantize; ``calibration_data`` is required unless the model is subclassed.
        options: Fields of the config by name, which override it.

    Returns:
        A model of the same layers, names and shapes, not compiled.

    Raises:
        TypeError: ``model`` or ``config`` is of another type.
        ValueError: The model is not built or quantized already, a pattern matches nothing, the calibration data is
            missing, empty, of another shape or not finite, it fails with weights that are no float32 or that Keras has
            quantized, ``strict`` and a layer stays float32 or the model is subclassed, ``preserve_clusters`` and no
            kernel is clustered, or nothing can be quantized. The layer is named.

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
    names = paths_by_name(model)
    patterns = (*config.keep_float, *config.layers)
    meant = with_aliases(dict.fromkeys(patterns), names.values(), names)
    graph = opened(model, lambda path: any(_is_of_whole(pattern, path) for pattern in meant))
    with naming_dtypes(graph, InvalidValueError):
        own = _by_names(graph, config, names)
        result, samples = rounded(graph, own)
        # A pattern of what is inside a layer has no meaning for the model as it is.
        has_closed = graph is not model and all(fnmatch.filter(_paths(model), pattern) for pattern in patterns)
        spec = read_call_spec(model)
        if has_closed and samples and (noise := output_noise(model, result, spec, samples)) > LOST:
            closed, _ = rounded(model, config)  # code may hold numbers that no range fits
            if output_noise(model, closed, spec, samples) < noise:
                graph, own, result = model, config, closed
        if samples:
            _look(graph, own, result, samples)
    return result


def rounded(model: keras.Model, config: QuantizeConfig) -> tuple[keras.Model, Mapping[str, np.ndarray]]:
    """The copy that :func:`quantize` returns, and the first batch of the calibration data, by the names of the inputs,
    if the model is no subclassed one."""
    check_built_model(model)
    masked = _masked(model, config)
    placements = place_activations(model, lambda path: config.for_layer(path) is None or path in masked)
    _check_fits(config, placements)
    placements = _with_given_ranges(model, config, placements)
    work = _Work(model, config, placements)
    result = compress(model, work.choose, work.hook)
    work.check_done()
    data = config.calibration_data
    if not placements or data is None:
        return result, {}
    return result, calibrate(result, data, lambda path: (config.for_layer(path) or config).calibration)


def _masked(model: keras.Model, config: QuantizeConfig) -> set[str]:
    """The operations that hold what a mask leaves of scores; not looked for where data can be read only once."""
    if config.calibration_data is None or isinstance(config.calibration_data, Iterator):
        return set()
    spec = read_call_spec(model)
    samples = next(iter(sample_batches(config.calibration_data, spec)), {})
    return masked_operations(model, spec, {name: array[: spec.batch or _FEW] for name, array in samples.items()})


def _by_names(graph: keras.Model, config: QuantizeConfig, names: Mapping[str, str]) -> QuantizeConfig:
    """The config, whose patterns may mean layers in what was opened by their attributes too."""
    paths, kept = _paths(graph), dict.fromkeys(config.keep_float)
    layers = with_aliases(config.layers, paths, names)
    return dataclasses.replace(config, keep_float=tuple(with_aliases(kept, paths, names)), layers=layers)


def _paths(model: keras.Model) -> list[str]:
    """What a range may be placed at: the layers and operations of a graph."""
    return [node.path for node in LayerGraph(model).nodes] if is_container(model) else [""]


def _is_of_whole(pattern: str, path: str) -> bool:
    """Whether a pattern means a layer, and not those inside it."""
    return fnmatch.fnmatchcase(path, pattern) and not fnmatch.fnmatchcase(f"{path}/layer", pattern)


def _look(model: keras.Model, config: QuantizeConfig, result: keras.Model, samples: Mapping[str, np.ndarray]) -> None:
    """Warn of what no training brings back, or raise if ``strict``."""
    spec = read_call_spec(model)

    def retry(paths: tuple[str, ...]) -> keras.Model:
        data, kept = pack(spec.structure, samples), (*config.keep_float, *paths)
        return rounded(model, dataclasses.replace(config, calibration_data=data, keep_float=kept, strict=False))[0]

    got = call_model(result, spec, samples)
    scales = keras.tree.map_structure(lambda _: None, got)
    text = input_scale_loss(model, result, spec, samples, retry)
    text = text or shared_scale_loss(model, spec, samples, got, scales, retry)
    if config.weight_bits == config.activation_bits == 8 and not config.layers:  # of fewer it is training that helps
        text = text or _far(model, result, spec, samples, retry)
    if text and config.strict:
        raise invalid_state(f"strict=True, but: {text}", "Or leave strict out.")
    if text:
        warnings.warn(text, stacklevel=3)


def _far(
    model: keras.Model, result: keras.Model, spec: CallSpec, samples: Mapping[str, np.ndarray], retry: Retry
) -> str:
    noise = output_noise(model, result, spec, samples) if is_container(model) else 0.0
    if noise < LOST:
        return ""
    text = (
        f"The quantized model is far from '{model.name}' on the calibration data: the noise is {noise:.0%} of an "
        "output's variance"
    )
    where, kept = layer_loss(model, result, spec, samples, retry)
    if kept:
        return f"{text}. Let what loses most compute in float32: keep_float={kept}."
    return f"{text}, which begins in '{where}'. Training may not bring it back." if where else f"{text}."


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
    settings = [chosen for chosen in (config, *config.layers.values()) if chosen is not None]
    if placements and config.calibration_data is None and any(chosen.new_range().needs_data for chosen in settings):
        raise invalid_state(
            "calibration_data is missing: the ranges of the activations start from samples.",
            "Pass a few hundred training samples: tg.quantize(model, calibration_data=x[:512]).",
        )


def _with_given_ranges(
    model: keras.Model, config: QuantizeConfig, placements: Mapping[str, Placement]
) -> dict[str, Placement]:
    """The placements with the ranges that the config gives instead of observed ones; raise for one without effect."""
    found = dict(placements)
    edges = _edges(model) if found else {}
    for field in ("input_range", "output_range"):
        used: set[int] = set()
        for path, place in placements.items():
            chosen = config.for_layer(path)
            given = None if chosen is None else getattr(chosen, field)
            if given is None or (chosen is config and path not in edges[field]):
                continue
            if field == "input_range" and place.inputs:
                found[path] = dataclasses.replace(place, input=given)
            elif field == "output_range" and place.output == OBSERVED:
                found[path] = dataclasses.replace(found[path], output=given)
            elif field == "output_range" and place.output is not None:
                if not np.allclose(given, place.output, rtol=0, atol=1 / 128):
                    subject, expected = f"{field} of layer '{path}'", f"{place.output}, which LiteRT gives it, or none"
                    raise invalid_value(subject, expected=expected, received=given)
            else:
                continue
            used.add(id(chosen))
        for chosen in (config, *config.layers.values()):
            if chosen is not None and getattr(chosen, field) is not None and id(chosen) not in used:
                expected = "one of a tensor that is rounded there, to a range of its own"
                fix = "Leave it out, or give the range of the layer that makes, or joins, the tensor: layers={...}."
                raise invalid_value(field, expected=expected, received=getattr(chosen, field), fix=fix)
    return found


def _edges(model: keras.Model) -> dict[str, set[str]]:
    """The paths of the layers that take in inputs of a model, and of those in whose ranges its outputs are."""
    graph = LayerGraph(model)

    def source(node: LayerNode) -> LayerNode:
        passes = is_pass_through(inner_operation(node.layer)) and len(node.producers) == 1
        return source(node.producers[0]) if passes else node

    first = {node.path for node in graph.nodes if any(producer in graph.inputs for producer in node.producers)}
    return {"input_range": first, "output_range": {source(node).path for node in graph.outputs}}


_FEW = 8  # samples that are looked at for masks
_MORE_INTEGERS = "a BatchNormalization is fused and each channel has its scale: more integers than it has clusters"
_SCALE_PER_CHANNEL = "a BatchNormalization is fused, so each channel has its scale: fold it first (tg.fold_batch_norm)"


class _Work:
    """What is added to each layer of a model, for :func:`tfgreen.transforms.compress.compress` to ask."""

    def __init__(self, model: keras.Model, config: QuantizeConfig, placements: Mapping[str, Placement]) -> None:
        self.config = config
        self.placements = placements
        self.tied = tied_variables(model)
        self.rounded = self.clustered = 0
        dense = [la for _, la in walk(model) if isinstance(la, (keras.layers.Dense, keras.layers.EinsumDense))]
        self.of_costly_scales = {id(layer.kernel) for layer in dense} if has_costly_scales(model) else set[int]()

    def choose(self, path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> Choice:
        """The rounding of the weights of a layer."""
        for kind in (FakeQuant, IntegerWeights):
            check_without(path, layer, chains, kind, "quantized")
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
        one_scale = config.weight_granularity == "per_tensor" or (
            config.weight_granularity == "auto" and config.weight_bits == 8 and id(variable) in self.of_costly_scales
        )
        rounding = self._rounding(axes, config, one_scale, fused, not can_share_scale(layer), codebook)
        rounding.build(shape)
        if isinstance(rounding, FakeQuant):
            rounding.start_from(value)
        has_mask = any(isinstance(item, Mask) for item in before)
        if config.preserve_sparsity and not has_mask and bool(keras.ops.any(value == 0)):
            mask = Mask(schedule=None)
            mask.build(shape)
            mask.hold(value)
            found.insert(0, mask)
        return [*found, rounding]

    def _rounding(
        self, axes: tuple[int, ...], config: QuantizeConfig, one_scale: bool, fused: bool, fused_per_channel: bool,
        codebook: Codebook | None,
    ) -> TensorTransform:
        own = config.weight_transform
        if own is not None:
            return type(own).from_config({**own.get_config(), "name": None})
        bits = config.weight_bits if axes else 8  # the table of an Embedding: LiteRT looks up 8 bits or floats
        note, shared = "", codebook is not None and not codebook.channel_axes  # one scale keeps so many integers
        if shared:
            note = _MORE_INTEGERS if axes and fused and fused_per_channel else ""
            axes = axes if note else ()
        elif one_scale:
            note = _SCALE_PER_CHANNEL if axes and fused else ""
            axes = axes if note else ()
        return FakeQuant(bits, axes, "max" if bits == 8 else "learned", marks_scale=not fused, note=note)

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
            if self.config.keep_float or None in self.config.layers.values():
                raise invalid_state(
                    "The settings keep all that could be quantized in float.", "Leave some of keep_float out."
                )
            fix = "tg.summary(model) says why for each layer."
            raise invalid_state("The model has no layer that can be quantized.", fix)


def is_quantized(model: keras.Model) -> bool:
    """Whether any layer of a model is one that :func:`quantize` made."""
    rounds_activations = any(layer.activations is not None for _, layer in compressed_layers(model))
    return rounds_activations or has_transform(model, FakeQuant)


def narrow_bits(model: keras.Model) -> list[int]:
    """The widths below 8 bits in which activations of a model are rounded."""
    hooks = [layer.activations for _, layer in compressed_layers(model) if layer.activations is not None]
    return sorted({range_.bits for hook in hooks for range_ in hook.ranges() if range_.bits < 8})
