"""TFMOT's ``quantization.keras``: quantization-aware training over ``tg.quantize``, without calibration data."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfgreen.checks import check_instance
from tfgreen.compat.algorithm import without_callback
from tfgreen.compat.annotate import QuantizeAnnotate, check_quantizable, quantize_annotate_model
from tfgreen.compat.answered import Answered
from tfgreen.compat.quantize_config import (
    Default8BitQuantizeScheme,
    DefaultQuantizeConfig,
    QuantizeConfig,
    QuantizeScheme,
    check_own_layout,
)
from tfgreen.compat.quantizers import Quantizer, RangeQuantizer
from tfgreen.compat.ranges import FileRange, FirstBatchRange, as_range
from tfgreen.compat.saved import wrapped_by_tfmot
from tfgreen.compat.told import raise_answer, tell_difference
from tfgreen.compat.weights import QuantizedWeight, Unrounded
from tfgreen.compat.wrappers.quantized import Quantized
from tfgreen.compat.wrappers.strip import stripped
from tfgreen.errors import InvalidValueError, invalid_type, invalid_value, layer_subject
from tfgreen.model.batch_norm import fuse_training
from tfgreen.model.paths import replaceable_layers, weights_by_path
from tfgreen.model.rebuild import rebuild
from tfgreen.model.weights import quantizable_weights
from tfgreen.quantization.placement import Placement, place_activations
from tfgreen.techniques.quantize import quantize
from tfgreen.techniques.quantize_config import QuantizeConfig as Settings
from tfgreen.transforms.base import TensorTransform
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.compressed import Compressed
from tfgreen.transforms.fake_quant import FakeQuant
from tfgreen.typing import PlainDict, Samples

_DIFFERENCE = (
    "ranges start from the first training batch, or from calibration_data, and not at -6 and 6; weights are rounded "
    "before a ReLU too, and per output channel in depthwise and transposed convolutions; layers keep their names; "
    "those that LiteRT computes in floats are left so, and named by tg.summary."
)


class _OfQuantized(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Quantized)


class QuantizeWrapper(Answered, metaclass=_OfQuantized):
    """The class of layers that are quantized, for ``isinstance``; it cannot be made."""

    way = (
        "Mark the layer with quantize_annotate_layer(layer, quantize_config) in its model, and call "
        "quantize_apply(model): it makes the wrappers."
    )


class QuantizeWrapperV2(QuantizeWrapper):
    """The same."""


def quantize_model(
    to_quantize: keras.Model, quantized_layer_name_prefix: str = "quant_", *, calibration_data: Samples | None = None
) -> keras.Model:
    """Return a copy of a model that is trained to be quantized: all of it.

    Args:
        to_quantize: A built Sequential or functional model. It is not changed.
        quantized_layer_name_prefix: Without effect: layers keep their names.
        calibration_data: A few hundred training samples, from which the ranges of activations start. Without, they
            start from the first training batch.

    Raises:
        ValueError: It is no such model.
        TypeError: It is of Keras 2.

    Example:
        >>> import keras, tfgreen as tg, tfgreen.compat as tfmot
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> quantized = tfmot.quantization.keras.quantize_model(model)
        >>> quantized.compile("sgd", "mse")
        >>> x = keras.random.normal((32, 8))
        >>> _ = quantized.fit(x, x[:, :4], verbose=0)
        >>> tg.convert(quantized, quantization="int8").operators["FULLY_CONNECTED"]
        1
    """
    check_quantizable("to_quantize", to_quantize)
    if not isinstance(quantized_layer_name_prefix, str):
        fix = "Pass a scheme to quantize_apply(quantize_annotate_model(model), scheme)."
        name, given = "quantized_layer_name_prefix", quantized_layer_name_prefix
        raise invalid_type(name, expected="a str", received=given, fix=fix)
    return quantize_apply(quantize_annotate_model(to_quantize), calibration_data=calibration_data)


def quantize_apply(
    model: keras.Model,
    scheme: QuantizeScheme = Default8BitQuantizeScheme(),
    quantized_layer_name_prefix: str = "quant_",
    *,
    calibration_data: Samples | None = None,
) -> keras.Model:
    """Return a copy of a model whose marked layers are trained to be quantized; the others stay float.

    Args:
        model: A built model with layers that ``quantize_annotate_model`` or ``quantize_annotate_layer`` has marked.
        scheme: One of this package's, or of yours; configs of its registry hold for layers without one of their own.
        quantized_layer_name_prefix: Without effect: layers keep their names.
        calibration_data: As in :func:`quantize_model`.

    Raises:
        ValueError: No layer is marked, or it is no Sequential or functional model that is built.
        TypeError: It is of Keras 2.
    """
    check_quantizable("model", model)
    check_instance("scheme", scheme, QuantizeScheme, "a QuantizeScheme")
    check_own_layout(scheme)
    tell_difference("quantize_apply", _DIFFERENCE)
    layers = dict(replaceable_layers(model))
    marked = {path: layer for path, layer in layers.items() if isinstance(layer, QuantizeAnnotate)}
    if not marked:
        raise InvalidValueError(
            "`model` must contain at least one layer which have been annotated with `quantize_annotate*`. There are no "
            "layers to quantize."
        )
    plain = rebuild(model, lambda path, layer: layer.layer if isinstance(layer, QuantizeAnnotate) else layer)
    paths = place_activations(plain, lambda path: False)
    kept = [path for path in paths if path not in marked] if len(marked) < len(layers) else []
    bare, configs = dict(replaceable_layers(plain)), _configs(plain, marked, scheme)
    parts = {path: _Quantizers.of(path, bare[path], config) for path, config in configs.items() if path not in kept}
    kept += [path for path, found in parts.items() if found.is_empty]  # as TFMOT's NoOpQuantizeConfig says
    own = {path: config for path, config in configs.items() if path not in kept}
    settings = _settings(scheme.settings(), calibration_data)
    overrides = {glob.escape(path): _override(parts[path], bare[path], settings) for path in own}
    result = quantize(plain, settings, keep_float=tuple(map(glob.escape, kept)), layers=overrides)
    if own:
        places = place_activations(plain, lambda path: path in kept)
        result = compress(
            result, lambda path, layer, chains: _own_weights(layer, parts[path], places.get(path)) if path in own
            else Choice()
        )
    return _with_configs(without_callback(result), own, scheme)


def _with_configs(model: keras.Model, own: Mapping[str, QuantizeConfig], scheme: QuantizeScheme) -> keras.Model:
    registry = scheme.get_quantize_registry()
    supports = getattr(registry, "supports", lambda layer: True)

    def swap(path: str, layer: keras.Layer) -> keras.Layer:
        if not isinstance(layer, Compressed):
            return layer
        given = own.get(path)
        if given is None and supports(layer.layer):
            given = registry.get_quantize_config(layer.layer)
        return Quantized.of(layer, given)

    result: keras.Model = rebuild(model, swap)
    fuse_training(result)
    return result


def _settings(found: PlainDict, calibration_data: Samples | None) -> Settings:
    own = dict(found)
    ranges = FirstBatchRange(bits=own.pop("activation_bits", 8))
    return Settings(ranges=ranges, calibration_data=calibration_data, **own)


def _configs(
    model: keras.Model, marked: Mapping[str, QuantizeAnnotate], scheme: QuantizeScheme
) -> dict[str, QuantizeConfig]:
    """The configs of users for layers, by path."""
    registry, found = scheme.get_quantize_registry(), {}
    for path, layer in replaceable_layers(model):
        if path in marked:
            config = marked[path].quantize_config
            if config is None and getattr(registry, "supports", lambda layer: True)(layer):
                config = registry.get_quantize_config(layer)
            if config is not None and not isinstance(config, DefaultQuantizeConfig):
                found[path] = config
    return found


@dataclasses.dataclass(frozen=True)
class _Quantizers:
    """What a config of the user's says of a layer: a quantizer for each path of a weight, and those of its output."""

    weights: Mapping[str, Quantizer]
    outputs: Sequence[Quantizer]

    @classmethod
    def of(cls, path: str, layer: keras.Layer, config: QuantizeConfig) -> _Quantizers:
        """Read the config of a bare layer that is built; a ValueError says what cannot be read."""
        where, paths = layer_subject(path, layer), {id(v): name for name, v in weights_by_path(layer).items()}

        def pairs(method: str) -> list[tuple[Any, Quantizer]]:
            found = getattr(config, method)(layer) or ()
            if not all(isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Quantizer) for item in found):
                subject, expected = f"{where}, {method}()", "pairs (what is quantized, instance of a Quantizer)"
                raise invalid_value(subject, expected=expected, received=found)
            return list(found)

        weights = {}
        for variable, quantizer in pairs("get_weights_and_quantizers"):
            if id(variable) not in paths:
                subject, expected = f"{where}, get_weights_and_quantizers()", f"variables of it: {list(paths.values())}"
                raise invalid_value(subject, expected=expected, received=variable, fix="Return layer.kernel.")
            weights[paths[id(variable)]] = quantizer
        outputs = list(config.get_output_quantizers(layer) or ())
        if not all(isinstance(quantizer, Quantizer) for quantizer in outputs):
            subject = f"{where}, get_output_quantizers()"
            raise invalid_value(subject, expected="instances of a Quantizer", received=outputs)
        return cls(weights, [*outputs, *(quantizer for _, quantizer in pairs("get_activations_and_quantizers"))])

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the layer is quantized."""
        return not self.weights and not self.outputs


def _override(found: _Quantizers, layer: keras.Layer, settings: Settings) -> Settings:
    ranges = as_range(found.outputs[0]) if found.outputs else FileRange()
    transform = Unrounded() if quantizable_weights(layer) else None
    return Settings(ranges=ranges, weight_transform=transform, preserve_sparsity=settings.preserve_sparsity)


def _own_weights(layer: keras.Layer, quantizers: _Quantizers, place: Placement | None) -> Choice:
    channels, fused = quantizable_weights(layer), place is not None and place.fused
    found: dict[str, list[TensorTransform]] = {}
    for path, quantizer in quantizers.weights.items():
        if isinstance(quantizer, RangeQuantizer) and quantizer.fits_weights and path in channels:
            axes = channels[path] if quantizer.per_axis else ()
            found[path] = [FakeQuant(quantizer.num_bits, axes, marks_scale=not fused)]
        else:
            found[path] = [QuantizedWeight(quantizer)]
    return Choice(found)


def quantize_scope(*args: Mapping[str, object]) -> contextlib.AbstractContextManager[None]:
    """A context in which models load that hold the classes of these dicts of name -> class.

    Raises:
        TypeError: One is no dict.
    """
    for names in args:
        check_instance("quantize_scope", names, Mapping, "dicts of name -> class")
    own = {name: item for names in args for name, item in names.items()}
    return keras.saving.custom_object_scope({**wrapped_by_tfmot("QuantizeLayer", "QuantizeWrapperV2"), **own})


def strip_clustering_cqat(to_strip: keras.Model) -> keras.Model:
    """Return a copy of a model that was trained by a cluster-preserving scheme, with the shared values as weights.

    It still rounds as it was trained to. ``tg.convert`` makes an integer file of it; TensorFlow's converter makes one
    that computes in floats.

    Raises:
        ValueError: It is no Sequential or functional model that is built.
        TypeError: It is of Keras 2.
    """
    check_quantizable("to_strip", to_strip)
    result: keras.Model = stripped(to_strip, Codebook)
    return result


def fix_input_output_range(
    model: keras.Model, num_bits: int = 8, input_min: float = 0.0, input_max: float = 1.0, output_min: float = 0.0,
    output_max: float = 1.0, narrow_range: bool = False,
) -> keras.Model:
    """Raise with the way that there is: ranges are given when the model is quantized."""
    way = f"tg.quantize(model, input_range=({input_min}, {input_max}), output_range=({output_min}, {output_max}), ...)."
    raise_answer("fix_input_output_range", f"Give the ranges when the model is quantized: {way}")


def remove_input_range(model: keras.Model) -> keras.Model:
    """Raise with the way that there is: the first layer is kept in float."""
    way = "tg.quantize(model, keep_float=('first layer',), ...): its inputs are then not rounded."
    raise_answer("remove_input_range", f"Name the layer when the model is quantized: {way}")
