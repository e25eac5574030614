"""Convert a Keras model to a LiteRT (.tflite) model: the front door of ``tfgreen.deploy``.

The model is traced with a batch of one (``export.py``) and goes through TensorFlow's converter
(``converter.py``); then the file gets the Keras names and structures of its inputs and outputs (``flatbuffer.py``).
Reference: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.converter import (
    SAVED_MODEL,
    ConverterSettings,
    reason_by_layer,
    run_converter,
    run_converter_apart,
)
from tfgreen.deploy.conversion.export import Exported, export
from tfgreen.deploy.conversion.post_training import missing_samples, needs_ranges, unclipped, with_ranges
from tfgreen.deploy.conversion.prepare import (
    averaging_apart,
    half_precision_layers,
    has_costly_scales,
    image_layers,
    in_float32,
    looping_layers,
    unrolled,
)
from tfgreen.deploy.inspection.check_calibration import calibration_findings
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.equal_biases import mend_equal_biases
from tfgreen.deploy.tflite.flatbuffer import add_metadata, name_edges, parse, write
from tfgreen.deploy.tflite.int4 import pack_int4
from tfgreen.deploy.tflite.layer_names import layers_of_operators, rename_tensors
from tfgreen.errors import ConversionError, InvalidValueError, invalid_type, invalid_value
from tfgreen.model.call_spec import CallSpec, read_call_spec
from tfgreen.model.fingerprint import fingerprint
from tfgreen.model.samples import calibration_arrays
from tfgreen.model.structure import leaf_names
from tfgreen.version import __version__

if TYPE_CHECKING:
    import keras


def convert(model: keras.Model, config: ConvertConfig = ConvertConfig()) -> LiteRTModel:
    """Convert a built Keras model to a LiteRT model; the model is left as it is.

    Nothing is printed. What was done besides converting is in ``notes`` of the result: recurrent layers written out
    step by step (TensorFlow's int8 calibration crashes on their loops), float32 instead of ``mixed_float16``, random
    augmentation left out, operators without an int8 kernel or a trained range. A conversion that may crash the process
    runs in one of its own.

    Args:
        model: A built Keras 3 model: sequential, functional, nested or subclassed, on the TensorFlow backend. One that
            was trained to be quantized converts to int8 with its trained ranges; it needs calibration data only for
            activations without one, which stay float32 otherwise.
        config: See :class:`ConvertConfig`.

    Returns:
        The artifact. Its inputs and outputs bear the names of the Keras model's, and keep its structure.

    Raises:
        TypeError: ``model`` is no ``keras.Model``, or ``config`` no ``ConvertConfig``.
        ValueError: The model is not built, or the calibration data is missing or unfit for it.
        ConversionError: The converter refuses the model, or crashes on it.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="out")])
        >>> [tensor.name for tensor in convert(model).outputs]
        ['out']
    """
    _check(model, config)
    name, notes = model.name, []
    half = half_precision_layers(model)
    if half:
        model = in_float32(model)
        notes.append(f"Computed in float32 instead of float16: layers {half}.")
    source = fingerprint(model)
    spec = read_call_spec(model)
    samples = None if config.calibration_data is None else calibration_arrays(config.calibration_data, spec)
    if samples is not None:
        notes.extend(map(str, calibration_findings(model, spec, samples)))
        try:
            model = averaging_apart(model)
        except InvalidValueError as error:
            notes.append(f"Average pooling keeps the scale of its input: {error}")
    given = model
    if needs_ranges(model, config):
        model = with_ranges(model, config, spec, samples, notes)
    elif samples is not None and config.quantization == "int8":
        model = unclipped(model, config, spec, samples, notes)
    if model is not given:
        spec = read_call_spec(model)
    with tempfile.TemporaryDirectory(prefix="tfgreen-") as temporary:
        folder = Path(temporary)
        exported = export(model, spec, folder / SAVED_MODEL, config.dynamic_batch)
        if config.integers:
            _check_calibrated(model, config, spec, exported, samples)
        if config.keeps_float:
            samples = None  # the converter would find ranges for the layers that shall have none
        hints: list[str] = []
        if (config.integers or config.dynamic_batch) and exported.loops:
            exported = _unroll(model, spec, folder, config, exported, notes, hints)
        run = run_converter_apart if config.integers and exported.loops else run_converter
        try:
            mode = "int8" if config.stores_int4 else config.quantization
            one = samples is not None and not exported.fake_quantized and has_costly_scales(model)
            if one:
                notes.append("Dense kernels have one scale each; one for each output would take over 2 % of the file.")
            settings = ConverterSettings(mode, config.input_dtype, config.output_dtype, one, config.flex)
            content = run(folder, settings, samples)
            if exported.fake_quantized:
                content = mend_equal_biases(content)
            if config.stores_int4:
                content = pack_int4(content)
        except ConversionError as error:
            raise ConversionError(_refused(name, config, exported, hints, error)) from error
    lite = LiteRTModel(content)
    if "VAR_HANDLE" in lite.operators:
        raise ConversionError(
            f"model '{name}': a layer writes to a variable during inference (a stateful RNN?), and a LiteRT file "
            "starts without its value. Build the model without state (stateful=False)."
        )
    foreign = [name for name in lite.operators if name.startswith("Flex")]
    if foreign:
        notes.append(f"Needs a runtime with the Flex delegate, for {foreign}; it was not run here.")
    if config.integers and lite.float_operators:
        notes.append(f"Operators that compute in float32, without an int8 kernel or a range: {lite.float_operators}.")
    lite = LiteRTModel(_annotated(content, config, spec, exported, notes, source, image_layers(model)))
    if config.strict:
        _check_integer(name, config, lite)
    if not foreign:
        _check_runs(name, config, lite, samples)
    return lite


def _check_integer(name: str, config: ConvertConfig, lite: LiteRTModel) -> None:
    kept = {layer for layer in lite.audit.float_layers if config.mode_of(layer) == "float32"}
    rows = [row for row in lite.audit.operators if row.in_float and not (row.layers and set(row.layers) <= kept)]
    if config.integers and rows:
        found = ", ".join(f"{row.operator} of layer {' + '.join(row.layers) or row.tensor!r}" for row in rows[:8])
        raise ConversionError(
            f"model '{name}': strict=True, but {len(rows)} operators compute in float32: {found}. LiteRT has no "
            "integer kernel for them, or they have no range. List them in keep_float, or leave strict out."
        )


def _check_runs(name: str, config: ConvertConfig, lite: LiteRTModel, samples: list[np.ndarray] | None) -> None:
    """An operator that the interpreter lacks shall be known now, not on the device; some tell only when they run."""
    try:
        if samples is None:
            lite.new_interpreter()
        else:
            lite.predict(dict(zip(leaf_names(lite.input_structure), (array[:1] for array in samples))))
    except ConversionError as error:
        found = re.search(r"Node number (\d+)", str(error))
        rows = lite.audit.operators
        if found is None or int(found[1]) >= len(rows):
            raise
        row = rows[int(found[1])]
        raise ConversionError(
            f"model '{name}' converts with quantization='{config.quantization}' to a file that cannot run: layers "
            f"{list(row.layers) or row.tensor!r} need {row.operator} of {', '.join(row.inputs)}, which LiteRT does not "
            f"compute. In its words: {error}"
        ) from error


def _annotated(
    content: bytes, config: ConvertConfig, spec: CallSpec, exported: Exported, notes: list[str], source: str,
    image_layers: set[str],
) -> bytes:  # fmt: skip
    """The file with Keras names, and with what only tfgreen knows of it as metadata."""
    file = parse(content, "converted model")
    name_edges(file, spec.structure, exported.outputs)
    layers = layers_of_operators(file, exported.calls, exported.output_calls)
    idle = image_layers.intersection(exported.calls).difference(*layers)
    if idle:
        notes.append(f"Image layers that do nothing in inference, left out: {sorted(idle)}.")
    rename_tensors(file, exported.calls)
    metadata = {
        "tfgreen": __version__,
        "source_sha256": source,
        **({"labels": list(config.labels)} if config.labels else {}),
        "inputs": spec.structure,
        "outputs": exported.outputs,
        "notes": notes,
        "layers": layers,
    }
    add_metadata(file, metadata)
    return write(file)


def _check(model: Any, config: Any) -> None:
    import keras

    from tfgreen.model.paths import check_built_model

    if not isinstance(config, ConvertConfig):
        raise invalid_type("config", expected="a ConvertConfig", received=config)
    check_built_model(model)
    if keras.backend.backend() != "tensorflow":
        raise invalid_value(
            "keras backend",
            expected="'tensorflow', whose converter writes .tflite files",
            received=f"'{keras.backend.backend()}'",
            fix="Save the model as .keras and convert it in a process with KERAS_BACKEND=tensorflow.",
        )


def _check_calibrated(
    model: Any, config: ConvertConfig, spec: CallSpec, exported: Exported, samples: list[np.ndarray] | None
) -> None:
    """Check that an integer file gets the ranges of its activations from somewhere."""
    if config.input_dtype == "int8" and any(not item.dtype.startswith("float") for item in spec.inputs):
        raise invalid_value(
            "input_dtype",
            expected="'float32' for a model with integer inputs, which stay as they are",
            received="'int8'",
        )
    if exported.fake_quantized and config.quantization == "int16x8":
        raise invalid_value(
            f"model '{model.name}'", expected="a model trained with activation_bits=16 for quantization='int16x8'",
            received="one with trained ranges of 8 bits", fix="Convert it with quantization='int8'.",
        )  # fmt: skip
    if samples is None and (not exported.fake_quantized or config.quantization == "int16x8"):
        raise missing_samples(model, config)


def _unroll(
    model: Any,
    spec: CallSpec,
    folder: Path,
    config: ConvertConfig,
    exported: Exported,
    notes: list[str],
    hints: list[str],
) -> Exported:
    """Export the model again with its recurrent layers unrolled, where it has any that can be."""
    looping = looping_layers(model)
    if not looping:
        return exported
    try:
        exported = export(unrolled(model), spec, folder / SAVED_MODEL, config.dynamic_batch)
    except (InvalidValueError, ConversionError) as error:
        hints.append(f"Its recurrent layers {looping} cannot be unrolled: {error}")
        return exported
    reason = "integers need" if config.integers else "a dynamic batch needs"
    notes.append(f"Recurrent layers written out step by step, which {reason}: {looping}.")
    return exported


def _refused(name: str, config: ConvertConfig, exported: Exported, hints: list[str], error: ConversionError) -> str:
    text = f"model '{name}' cannot be converted with quantization='{config.quantization}': "
    text += reason_by_layer(str(error), exported.calls)
    if exported.loops and config.integers:
        text += f"\nIt runs loops ({', '.join(exported.loops)}), on which int8 calibration fails."
        text += " Try quantization='dynamic', or recurrent layers with unroll=True and a fixed number of steps."
    return "\n".join([text, *hints])
