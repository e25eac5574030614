"""Post-training quantization where TensorFlow's converter does it one way only: ranges, bits and layers of choice.

The model is quantized as for training (:func:`tfgreen.quantize`), and left as it then is: the converter takes over the
ranges that it carries.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence

import keras

from tfgreen.deploy.conversion.record import Conversion
from tfgreen.deploy.inspection.check_calibration import calibration_findings
from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.model.graph import LayerGraph
from tfgreen.model.internals import is_container
from tfgreen.quantization.placement import averaging_before_concat
from tfgreen.techniques.overrides import check_layer_patterns
from tfgreen.techniques.quantize import QuantizeConfig, is_quantized, quantize

_BITS = {"int8": 8, "int4": 4}
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)


def place_ranges(conversion: Conversion) -> Conversion:
    """Note what looks wrong with the samples, and place ranges where the converter would place none, or bad ones.

    Raises:
        ValueError: There are no samples; the model is quantized already; it is subclassed and the config asks for more
            than 4-bit weights; a pattern matches no layer.
    """
    model, config, samples = conversion.model, conversion.config, conversion.samples
    notes = [] if samples is None else [*map(str, calibration_findings(model, conversion.spec, samples))]
    quantized = is_quantized(model)
    if config.places_ranges or (config.stores_int4 and not quantized):
        return _with_ranges(conversion, notes)
    if samples is None or config.quantization != "int8" or quantized or not is_container(model):
        return conversion.noted(*notes)
    averaging = averaging_before_concat(model)
    if not averaging:
        return conversion.noted(*notes)
    try:
        placed = _with_ranges(conversion, notes)
    except InvalidValueError as error:
        return conversion.noted(
            *notes, f"What layers {averaging} average gets the range of what it is joined with: {error}"
        )
    return placed.noted(f"Ranges placed by tfgreen; TensorFlow's would clip what layers {averaging} average.")


def _with_ranges(conversion: Conversion, notes: Sequence[str]) -> Conversion:
    """The model with rounded weights, and with ranges where LiteRT rounds, started from the samples."""
    model, config, data = conversion.model, conversion.config, conversion.calibration_data()
    if config.places_ranges and not is_container(model):
        raise invalid_value(
            f"model '{model.name}'",
            expected="a model whose layers are a graph, for calibration='percentile' or 'mse', keep_float and layers",
            received="a subclassed one",
            fix="Leave them out.",
        )
    nodes = LayerGraph(model).nodes if is_container(model) else ()
    layers = {n.path: n.layer for n in nodes if not isinstance(n.layer, keras.layers.InputLayer)} or {"": model}
    check_layer_patterns(list(layers), config.layers)
    modes = {path: config.mode_of(path) for path in layers}
    wide = [path for path, layer in layers.items() if modes[path] == "int4" and _lacks_int4(layer)]
    if wide:
        modes |= dict.fromkeys(wide, "int8")
        notes = [*notes, f"Weights in 8 bits, because LiteRT has no kernel for 4 there: {wide}."]

    def settings(mode: str) -> QuantizeConfig | None:
        if mode == "float32":
            return None
        return QuantizeConfig(calibration=config.calibration, ranges="fixed", weight_bits=_BITS[mode])

    whole = QuantizeConfig(
        calibration_data=data,
        calibration=config.calibration,
        ranges="fixed",
        weight_bits=_BITS[config.quantization],
        keep_float=config.keep_float,
        layers={glob.escape(path): settings(mode) for path, mode in modes.items() if mode != config.quantization},
    )
    return conversion.noted(*notes, model=quantize(model, whole))


def _lacks_int4(layer: keras.Operation) -> bool:
    """Whether LiteRT runs the kernel of a layer by an operator that takes no 4-bit weights."""
    return isinstance(getattr(layer, "stands_for", layer), (*_TRANSPOSED, keras.layers.Conv3D))
