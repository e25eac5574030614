"""Post-training quantization where TensorFlow's converter does it one way only: ranges, bits and layers of choice.

The model is quantized as for training (:func:`tfgreen.quantize`), and left as it then is: the converter takes over the
ranges that it carries.
"""

from __future__ import annotations

import dataclasses
import glob
import math
from collections.abc import Iterator

import keras

from tfgreen.deploy.conversion.record import Conversion
from tfgreen.deploy.inspection.check_calibration import calibration_findings
from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.model.call_spec import call_model
from tfgreen.model.graph import LayerGraph, LayerNode
from tfgreen.model.internals import is_container
from tfgreen.model.layer_calls import Around, around_calls, every_operation
from tfgreen.model.weights import is_own
from tfgreen.quantization.lowering import (
    BADLY_CALIBRATED,
    DIVIDES,
    LOSES_IN_INTEGERS,
    NEEDS_SAMPLES,
    SIGNED_UNIT,
    UNIT,
    WIDE_FEATURES,
    lowering_of,
)
from tfgreen.quantization.op_classes import (
    inner_operation,
    is_averaging,
    is_fused_activation,
    is_pass_through,
    is_product,
    operation_name,
)
from tfgreen.quantization.placement import averaging_before_concat, is_linear_kernel, place_activations
from tfgreen.structure import pack
from tfgreen.techniques.overrides import check_layer_patterns
from tfgreen.techniques.quantize import is_quantized, narrow_bits, rounded
from tfgreen.techniques.quantize_config import QuantizeConfig
from tfgreen.typing import Tensor, Tensors

_OUTGROWN, _FEW = 4.0, 8  # times as large as a factor; samples to look at
_BITS = {"int8": 8, "int4": 4}
_NARROWS, _CHOICES = frozenset("Clip Maximum Minimum Where".split()), (keras.layers.Maximum, keras.layers.Minimum)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)


def place_ranges(conversion: Conversion) -> Conversion:
    """Note what looks wrong with the samples, and place ranges where the converter would place none, or bad ones.

    Raises:
        ValueError: There are no samples; the model is quantized already; it is subclassed and the config asks for more
            than 4-bit weights; a pattern matches no layer.
    """
    model, config, samples = conversion.model, conversion.config, conversion.samples
    notes = [] if samples is None else [*map(str, calibration_findings(model, conversion.spec, [*samples.values()]))]
    quantized = is_quantized(model)
    narrow = narrow_bits(model)
    if narrow:
        notes.append(
            f"Activations trained in {' and '.join(map(str, narrow))} bits are stored in 8, between the same ends: "
            "LiteRT has none of fewer, so the file rounds finer than the model."
        )
    if config.places_ranges or (config.stores_int4 and not quantized):
        model, wide = with_ranges(conversion)
        notes += [f"Weights in 8 bits, because LiteRT has no kernel for 4 there: {wide}."] if wide else []
    elif samples is not None and config.quantization == "int8" and not quantized and is_container(model):
        reasons = {path: place.reason for path, place in place_activations(model, lambda path: False).items()}
        needs_samples = any(reason in NEEDS_SAMPLES for reason in reasons.values())
        averaging, outgrown = averaging_before_concat(model), [] if needs_samples else _outgrown(conversion)
        # Norms wait where others compute in integers only with samples; lost features cannot.
        losing = (WIDE_FEATURES, DIVIDES) if needs_samples else LOSES_IN_INTEGERS
        in_float = [path for path, reason in reasons.items() if reason in losing]
        why = [f"TensorFlow's would clip what layers {averaging} average"] if averaging else []
        why += [f"TensorFlow's would round what {outgrown} multiply as coarsely as the products"] if outgrown else []
        narrowed = [] if needs_samples else _narrowed(model)
        why += [f"TensorFlow's would clip {narrowed} to what is chosen of them"] if narrowed else []
        parts = [path for path, reason in reasons.items() if reason in BADLY_CALIBRATED]
        why += [f"TensorFlow's would give the activation of {parts} another range on the way"] if parts else []
        if in_float:
            why.append(f"layers {in_float} compute in float32, because they would lose much in 8 bits, or fail")
        try:
            if why:
                model, _ = with_ranges(conversion)
                notes.append(f"Ranges placed by tfgreen: {', and '.join(why)}.")
        except InvalidValueError as error:
            notes.append(f"Ranges placed by TensorFlow's converter, though {', and '.join(why)}: {error}")
    return dataclasses.replace(conversion, model=model, notes=(*conversion.notes, *notes))


def _narrowed(model: keras.Model) -> list[str]:
    """Layers and operations of whose output another one returns a part of the range (a clip, a maximum, a choice), and
    which others read too, or which average: TensorFlow's calibration gives both the range of that part, and clips what
    is yet to be averaged."""
    graph = LayerGraph(model)
    found = [
        node.path
        for node in graph.nodes
        if (len(node.consumers) > 1 or node in graph.outputs or is_averaging(inner_operation(node.layer)))
        and any(operation_name(layer) in _NARROWS or is_own(layer, _CHOICES) for layer in _readers(node))
    ]
    return list(dict.fromkeys(found))


def _readers(node: LayerNode) -> Iterator[keras.Operation]:
    """What reads the floats of a node, past layers that hand them on, or that are fused into it."""
    for then in node.consumers if any(dtype.startswith("float") for dtype in node.output_dtypes) else ():
        layer = inner_operation(then.layer)
        yield layer
        passes = is_fused_activation(layer) or (is_pass_through(layer) and not is_averaging(layer))
        yield from _readers(then) if passes else ()


def _outgrown(conversion: Conversion) -> list[str]:
    """Layers and operations that make much larger numbers of what they multiply. TensorFlow's calibration reads a
    factor only after the product has taken its place in memory; the ends of a sigmoid or tanh it knows."""
    makers: list[tuple[Tensor, keras.Operation]] = []
    found: list[str] = []

    def shares_memory(x: Tensor, outputs: Tensor, alone: bool) -> bool:
        maker = next((maker for made, maker in reversed(makers) if made is x), None)
        if maker is None or x.shape != outputs.shape or (alone and is_linear_kernel(maker)):
            return False  # it is an input of the model, or another size, or the product is fused into the kernel
        return lowering_of(maker).output not in (UNIT, SIGNED_UNIT)

    def around(operation: keras.Operation, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
        outputs, inner = call(*args, **kwargs), inner_operation(operation)
        if is_product(inner):
            tensors = [x for x in keras.tree.flatten(args) if keras.ops.is_tensor(x)]
            factors = [x for x in tensors if shares_memory(x, outputs, len(tensors) == 1)]
            if is_own(inner, (keras.layers.Normalization,)) and not inner.invert:
                factors = [tensors[0] - inner.mean]
            least = min((_largest(x) for x in factors), default=math.inf)
            found.extend([operation.name] if _largest(outputs) > _OUTGROWN * least else [])
        makers.extend((made, inner) for made in keras.tree.flatten(outputs))
        return outputs

    operations = every_operation(conversion.model)
    if any(is_product(inner_operation(operation)) for operation in operations):
        samples = {name: array[: conversion.spec.batch or _FEW] for name, array in (conversion.samples or {}).items()}
        with around_calls(operations, around):
            call_model(conversion.model, conversion.spec, samples)
    return list(dict.fromkeys(found))


def _largest(x: Tensor) -> float:
    return float(keras.ops.max(keras.ops.abs(x)))


def with_ranges(conversion: Conversion) -> tuple[keras.Model, list[str]]:
    """The model with rounded weights, and with ranges where LiteRT rounds, started from the samples; and the paths of
    the layers that keep 8 bits for want of a kernel for 4."""
    model, config, samples = conversion.model, conversion.config, conversion.samples
    if samples is None:
        raise conversion.missing_samples()
    if config.places_ranges and not is_container(model):
        expected = "a model whose layers are a graph, for calibration='percentile' or 'mse', keep_float and layers"
        fix = "Leave them out."
        raise invalid_value(f"model '{model.name}'", expected=expected, received="a subclassed one", fix=fix)
    nodes = LayerGraph(model).nodes if is_container(model) else ()
    layers = {n.path: n.layer for n in nodes if not isinstance(n.layer, keras.layers.InputLayer)} or {"": model}
    check_layer_patterns(list(layers), config.layers)
    modes = {path: config.mode_of(path) for path in layers}
    wide = [path for path, layer in layers.items() if modes[path] == "int4" and _lacks_int4(layer)]
    modes |= dict.fromkeys(wide, "int8")
    configs = {
        mode: QuantizeConfig(calibration=config.calibration, ranges="fixed", weight_bits=bits)
        for mode, bits in _BITS.items()
    }
    overrides = {glob.escape(path): configs.get(mode) for path, mode in modes.items() if mode != config.quantization}
    whole, kept = configs[config.quantization], config.keep_float
    data = pack(conversion.spec.structure, samples)
    whole = dataclasses.replace(whole, calibration_data=data, keep_float=kept, layers=overrides)
    return rounded(model, whole)[0], wide


def _lacks_int4(layer: keras.Operation) -> bool:
    """Whether LiteRT runs the kernel of a layer by an operator that takes no 4-bit weights."""
    return isinstance(getattr(layer, "stands_for", layer), (*_TRANSPOSED, keras.layers.Conv3D))
