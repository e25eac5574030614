"""SavedModel -> .tflite: what TensorFlow's converter is asked for, where it runs, and what its errors mean."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from tfgreen.deploy.conversion.converter import ConverterSettings, run_converter, run_in_worker
from tfgreen.deploy.conversion.record import Conversion
from tfgreen.errors import ConversionError, invalid_value
from tfgreen.model.graph import LayerGraph
from tfgreen.model.internals import is_container

_CALL = re.compile(r"\bcall\.(\d+)/")  # the scope of a layer call, see export.py
_UNPREPARED = re.compile(r"Node number \d+ \((\w+)\) failed to prepare")
_LACKING = re.compile(r"^(TF Select|Custom) ops: (.+)$", re.MULTILINE)
_UNKNOWN = re.compile(r"'tf\.(\w+)' op is neither a custom op nor a flex op")


def translate(conversion: Conversion, folder: Path) -> Conversion:
    """Convert the SavedModel in ``folder`` to a file beside it; in a process of its own where the converter may crash.

    Raises:
        ValueError: The activations of an integer file get their ranges from nowhere.
        ConversionError: The converter refuses the model, or crashes on it.
    """
    _check_ranges(conversion)
    config, traced = conversion.config, conversion.traced
    samples = None if traced.keeps_float or conversion.samples is None else list(conversion.samples.values())
    one_scale = samples is not None and not traced.fake_quantized and traced.costly_scales
    mode = "int8" if config.stores_int4 else config.quantization
    mode = "float32" if mode == "dynamic" and traced.integers else mode
    settings = ConverterSettings(mode, config.input_dtype, config.output_dtype, one_scale, config.flex)
    crashes = config.integers and traced.loops
    try:
        (run_in_worker if crashes else run_converter)(folder, settings, samples)
    except ConversionError as error:
        reason = _of_doubles(conversion) or reason_by_layer(str(error), traced.calls)
        if crashes:
            loops = [note for note in conversion.notes if note.startswith("Recurrent layers")]
            hint = f"It runs loops ({', '.join(traced.loops)}), on which int8 calibration fails. Try "
            hint += "quantization='dynamic', or recurrent layers with unroll=True and a fixed number of steps."
            reason = "\n".join([reason, hint, *loops])
        elif traced.fake_quantized and samples is not None:
            reason += (
                "\nIts trained ranges may not go with those found on calibration data: leave calibration_data out, and "
                "what has no trained range computes in float32."
            )
        raise conversion.refused(reason) from error
    notes = list(conversion.notes)
    if one_scale:
        notes.append("Dense kernels have one scale each; one for each output would take over 2 % of the file.")
    if traced.fake_quantized and not config.integers:
        notes.append(
            f"The model has trained ranges, to which the file rounds whatever quantization='{mode}' asks for: pass "
            "quantization='int8' for a file that computes in integers, or tg.strip(model) for one without ranges."
        )
    return dataclasses.replace(conversion, notes=tuple(notes))


def _of_doubles(conversion: Conversion) -> str:
    """What makes float64 of other numbers in a graph, which LiteRT does not compute with; "" where nothing does."""
    for node in LayerGraph(conversion.original).nodes if is_container(conversion.original) else ():
        taken = {dtype for producer in node.producers for dtype in producer.output_dtypes}
        if "float64" in node.output_dtypes and "float64" not in taken:
            return (
                f"'{node.path}' makes float64 numbers, which LiteRT does not compute with. A number of NumPy's does "
                "that, as in x / np.sqrt(8.0): make it a Python float, x / float(np.sqrt(8.0))."
            )
    return ""


def _check_ranges(conversion: Conversion) -> None:
    """Check that an integer file gets the ranges of its activations from somewhere."""
    wide, trained = conversion.config.quantization == "int16x8", conversion.traced.fake_quantized
    if wide and trained:
        expected = "a model trained with activation_bits=16 for quantization='int16x8'"
        received, fix = "one with trained ranges of 8 bits", "Convert it with quantization='int8'."
        raise invalid_value(f"model '{conversion.name}'", expected=expected, received=received, fix=fix)
    if conversion.config.integers and conversion.samples is None and (wide or not trained):
        raise conversion.missing_samples()


def reason_by_layer(reason: str, calls: Sequence[str]) -> str:
    """Put what the converter raised into a sentence that names the layers, given the path of the layer of each call;
    the reason as it is where nothing in it leads to a layer."""
    numbers = dict.fromkeys(int(n) for n in _CALL.findall(reason) if int(n) < len(calls))
    layers = list(dict.fromkeys(calls[n] for n in sorted(numbers)))
    found = _LACKING.findall(reason)
    lacking = sorted({name.strip() for _, names in found for name in names.split(",")} or {*_UNKNOWN.findall(reason)})
    if lacking:
        subject = f"layers {layers} need" if layers else "it needs"
        flex = (
            " Or ask for a float file with TensorFlow's operators, ConvertConfig(flex=True): programs with the Flex "
            "delegate run it (on Android org.tensorflow:tensorflow-lite-select-tf-ops), Python's interpreters do not."
        )
        allows = flex if found and all(kind == "TF Select" for kind, _ in found) else ""
        remedy = f"Compute it outside of the file, or replace the layer.{allows}"
        return f"{subject} {', '.join(lacking)}, for which LiteRT has no operator. {remedy}"
    if "TensorListReserve" in reason:
        place = f"layers {layers} loop" if layers else "it loops"
        return f"{place} over a batch of open size. Give recurrent layers unroll=True and a fixed number of steps."
    unprepared = _UNPREPARED.search(reason)
    if unprepared:
        return f"TensorFlow's calibration cannot run {unprepared[1]}: {reason}"
    return f"layers {layers}: {reason}" if layers else reason
