"""Post-training quantization where TensorFlow's converter does it one way only: ranges, bits and layers of choice.

The model is quantized as for training (:func:`tfgreen.quantize`), and left as it then is: the converter takes over the
ranges that it carries.
"""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, Any

import numpy as np

from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.model.call_spec import CallSpec
from tfgreen.model.structure import leaf_names, pack

if TYPE_CHECKING:
    import keras

_BITS = {"int8": 8, "int4": 4}


def needs_ranges(model: keras.Model, config: ConvertConfig) -> bool:
    """Whether the config asks for what the converter alone does not do."""
    if config.places_ranges or not config.stores_int4:
        return config.places_ranges
    from tfgreen.techniques.quantize import is_quantized

    return not is_quantized(model)


def with_ranges(
    model: keras.Model, config: ConvertConfig, spec: CallSpec, samples: list[np.ndarray] | None, notes: list[str]
) -> keras.Model:
    """The model with rounded weights, and with ranges where LiteRT rounds, started from the samples.

    Raises:
        ValueError: There are no samples; the model is quantized already; it is subclassed and the config asks for more
            than 4-bit weights; a pattern matches no layer.
    """
    from tfgreen.model.internals import is_container
    from tfgreen.model.paths import replaceable_layers
    from tfgreen.quantization.placement import places_to_round
    from tfgreen.techniques.overrides import check_layer_patterns
    from tfgreen.techniques.quantize import QuantizeConfig, quantize
    from tfgreen.techniques.strip import strip

    if samples is None:
        raise missing_samples(model, config)
    if config.places_ranges and not is_container(model):
        raise invalid_value(
            f"model '{model.name}'", expected="a model whose layers are a graph, for calibration='percentile' or "
            "'mse', keep_float and layers", received="a subclassed one", fix="Leave them out.",
        )  # fmt: skip

    def settings(mode: str) -> QuantizeConfig | None:
        if mode == "float32":
            return None
        return QuantizeConfig(calibration=config.calibration, ranges="fixed", weight_bits=_BITS[mode])

    layers = dict(replaceable_layers(model))
    paths = list(dict.fromkeys([*layers, *(places_to_round(strip(model)) if is_container(model) else ())]))
    check_layer_patterns(paths, config.layers)
    modes = {path: config.mode_of(path) for path in paths}
    wide = [path for path, layer in layers.items() if modes[path] == "int4" and _lacks_int4(layer)]
    if wide:
        modes |= dict.fromkeys(wide, "int8")
        notes.append(f"Weights in 8 bits, because LiteRT has no kernel for 4 there: {wide}.")
    return quantize(
        model,
        QuantizeConfig(
            calibration_data=pack(spec.structure, dict(zip(leaf_names(spec.structure), samples))),
            calibration=config.calibration,
            ranges="fixed",
            weight_bits=_BITS[config.quantization],
            keep_float=config.keep_float,
            layers={glob.escape(p): settings(mode) for p, mode in modes.items() if mode != config.quantization},
        ),
    )


def unclipped(
    model: keras.Model, config: ConvertConfig, spec: CallSpec, samples: list[np.ndarray], notes: list[str]
) -> keras.Model:
    """The model with ranges where the converter's own would clip what is averaged and then joined, else as it is."""
    from tfgreen.model.internals import is_container
    from tfgreen.quantization.placement import averages_into_join
    from tfgreen.techniques.quantize import is_quantized

    if not is_container(model) or is_quantized(model):
        return model
    averaging = averages_into_join(model)
    if not averaging:
        return model
    try:
        model = with_ranges(model, config, spec, samples, notes)
    except InvalidValueError as error:
        notes.append(f"What layers {averaging} average gets the range of what it is joined with: {error}")
    else:
        notes.append(f"Ranges placed by tfgreen; TensorFlow's would clip what layers {averaging} average.")
    return model


def missing_samples(model: keras.Model, config: ConvertConfig) -> Exception:
    """The error for a model whose activations get their ranges from nowhere."""
    return invalid_value(
        "calibration_data",
        expected=f"samples of the inputs of model '{model.name}', to see the ranges of its activations",
        received="none",
        fix="Pass a few hundred training samples: "
        f"ConvertConfig(quantization='{config.quantization}', calibration_data=x[:512]).",
    )


def _lacks_int4(layer: Any) -> bool:
    """Whether LiteRT runs the kernel of a layer by an operator that takes no 4-bit weights."""
    import keras

    transposed = keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose
    return isinstance(getattr(layer, "stands_for", layer), (*transposed, keras.layers.Conv3D))
