"""Finish a converted file: mend it, name what is in it as the Keras model does, and add the metadata."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tfgreen.deploy.conversion.converter import RESULT
from tfgreen.deploy.conversion.record import Conversion
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.storage.integer_constants import store_constants
from tfgreen.deploy.storage.integer_weights import store_integers
from tfgreen.deploy.storage.narrow_scales import store_bfloat16_scales
from tfgreen.deploy.storage.narrow_weights import pack_int4, store_float16
from tfgreen.deploy.tflite.audit import audit_operators
from tfgreen.deploy.tflite.biases import mend_biases, mend_scales, weighted_operators
from tfgreen.deploy.tflite.contents import TensorInfo, count_operators, edge_tensors, float_operators, quantization_of
from tfgreen.deploy.tflite.flatbuffer import name_edges, parse, set_metadata
from tfgreen.deploy.tflite.layer_names import layers_of_operators, rename_tensors
from tfgreen.deploy.tflite.rewrites import (
    bound_before_rsqrt,
    drop_detours,
    drop_unused_tensors,
    fold_requantized,
    mend_one_hot,
)
from tfgreen.deploy.tflite.ties import repeated, share_buffers, share_tables
from tfgreen.deploy.tflite.writing import write
from tfgreen.errors import ConversionError, invalid_value, listed
from tfgreen.version import __version__

_STORED = {  # weights that these modes store in another type
    "dynamic": "has the 1024 elements from which on 'dynamic' stores it as int8",
    "float16": "is a matrix, or a vector of the 1024 elements from which on 'float16' stores one so, that it can hold",
}


def finish(conversion: Conversion, folder: Path) -> LiteRTModel:
    """Return the artifact in ``folder``, with Keras names, and with what only tfgreen knows of it as metadata.

    Raises:
        ConversionError: No weight can be stored in 4 bits, or a variable is written, or ``strict`` and an operator
            stays float32.
        ValueError: There are not as many labels as an output has classes.
    """
    config, traced = conversion.config, conversion.traced
    file = parse((folder / RESULT).read_bytes(), "converted model")
    dead = mend_scales(file)
    share_tables(file)
    mend_biases(file, traced.fake_quantized)
    drop_detours(file)
    bound_before_rsqrt(file)
    mend_one_hot(file)
    fold_requantized(file)
    drop_unused_tensors(file)
    floats = store_integers(file, traced.integers, config.quantization == "dynamic") if not config.integers else []
    too_odd = store_float16(file) if config.quantization == "float16" else set[int]()
    if config.stores_int4:
        try:
            pack_int4(file)
        except ConversionError as error:
            raise conversion.refused(str(error)) from error
    if config.integers and traced.fake_quantized:
        store_constants(file)
    if config.weight_scales == "bfloat16":
        store_bfloat16_scales(file)
    operators = count_operators(file)
    if "VAR_HANDLE" in operators:
        raise conversion.writes_variable()
    name_edges(file, conversion.spec.structure, traced.outputs)
    layers = layers_of_operators(file, traced.calls, traced.output_calls)
    rename_tensors(file, traced.calls)
    share_buffers(file)
    notes = list(conversion.notes)
    if dead:
        alive = {layer for number in weighted_operators(file) if number not in dead for layer in layers[number]}
        where = list(dict.fromkeys(layer for number in dead for layer in layers[number] if layer not in alive))
        if where:  # single steps of a recurrent layer may be 0, where all samples end
            notes.append(
                f"Layers {where} return 0 on all calibration data, or next to nothing, and the file does so on any "
                "data: look at their weights, or calibrate with samples on which they return more."
            )
    for numbers, size in repeated(file):
        where = list(dict.fromkeys(layer for number in sorted(numbers) for layer in layers[number]))
        notes.append(f"Weights of layers {where} are stored twice, in two forms, which takes {size:,} bytes.")
    if floats:
        notes.append(f"Weights of layers {floats} are stored as floats: the converter has changed them.")
    if config.integers and traced.integers:
        notes.append("Weights of tg.quantize_weights are rounded again, to int8 with a scale for each output.")
    odd = [paths for op, paths in zip(file.subgraphs[0].operators, layers) if not too_odd.isdisjoint(op.inputs)]
    if odd:
        where = list(dict.fromkeys(layer for paths in odd for layer in paths))
        notes.append(f"Weights of layers {where} stay float32, because float16 does not hold them: 6e-5 to 65,504.")
    foreign = [operator for operator in operators if operator.startswith("Flex")]
    if foreign:
        notes.append(
            f"Needs a runtime with the Flex delegate, for {foreign}. Python's interpreters have none: it was not run."
        )
    inputs, outputs = edge_tensors(file, "inputs"), edge_tensors(file, "outputs")
    _check_labels(config.labels, outputs)
    for side, tensors, dtype in (("inputs", inputs, config.input_dtype), ("outputs", outputs, config.output_dtype)):
        edges = [tensor.name for tensor in tensors if tensor.dtype == "float32" != dtype]
        if edges:
            notes.append(f"The {side} {edges} stay float32, though {dtype} was asked for: their layers compute in it.")
    in_float = float_operators(file)
    if config.integers and in_float:
        kernel = "a kernel for 16-bit activations" if config.quantization == "int16x8" else "an int8 kernel"
        audit = audit_operators(file, layers)
        named = list(dict.fromkeys(row.tensor for row in audit.operators if row.in_float))
        whose = f"layers {listed(audit.float_layers)}" if audit.float_layers else f"tensors {listed(named)}"
        notes.append(f"Operators that compute in float32, without {kernel} or a range: {in_float} of {whose}.")
    if config.quantization in _STORED and quantization_of(file) == "float32":
        notes.append(f"The file is float32: no weight {_STORED[config.quantization]}.")
    idle = traced.image_layers.intersection(traced.calls).difference(*layers)
    if idle:
        notes.append(f"Image layers that do nothing in inference, left out: {sorted(idle)}.")
    metadata = {
        "tfgreen": __version__,
        "source_sha256": conversion.source,
        **({"labels": list(config.labels)} if config.labels else {}),
        "inputs": conversion.spec.structure,
        "outputs": traced.outputs,
        "notes": notes,
        "layers": layers,
    }
    set_metadata(file, metadata)
    lite = LiteRTModel(write(file))
    if conversion.unrolled:
        beside = lite.size_bytes - sum(weight.stored_bytes for weight in lite.weights.values())
        steps = ", ".join(f"{count or 'all'} steps of '{path}'" for path, count in conversion.unrolled.items())
        notes.append(f"Unrolled {steps}: {beside:,} of the file's {lite.size_bytes:,} bytes are no weights.")
        set_metadata(file, metadata)
        lite = LiteRTModel(write(file))
    if config.strict and config.integers:
        _check_integer(conversion, lite)
    return lite


def _check_labels(labels: Sequence[str], outputs: Sequence[TensorInfo]) -> None:
    """Raise unless there is one for each class of an output: two where one number tells them apart, any number of them
    where the output is the number of a class, or its last axis is open."""
    scores = [tensor for tensor in outputs if tensor.shape and not (tensor.dtype[0] in "iu" and tensor.scale is None)]
    classes = {2 if tensor.shape[-1] == 1 else tensor.shape[-1] for tensor in scores}
    if labels and len(scores) == len(outputs) and classes.isdisjoint((len(labels), None)):
        shapes = {tensor.name: tensor.shape for tensor in outputs}
        expected, received = f"one for each class of an output, of shapes {shapes}", f"{len(labels)}: {listed(labels)}"
        raise invalid_value("labels", expected=expected, received=received)


def _check_integer(conversion: Conversion, lite: LiteRTModel) -> None:
    kept = {layer for layer in lite.audit.float_layers if conversion.config.mode_of(layer) == "float32"}
    rows = [row for row in lite.audit.operators if row.in_float and not (row.layers and set(row.layers) <= kept)]
    if rows:
        found = ", ".join(f"{row.operator} of layer {' + '.join(row.layers) or row.tensor!r}" for row in rows[:8])
        raise ConversionError(
            f"model '{conversion.name}': strict=True, but {len(rows)} operators compute in float32: {found}. LiteRT "
            "has no integer kernel for them, or they have no range. List them in keep_float, or leave strict=True out."
        )
