"""Convert a Keras model to a LiteRT (.tflite) model: the front door of ``tfgreen.deploy``.

The model is traced with a static batch of one (``export.py``) and goes through TensorFlow's converter
(``converter.py``); then the file gets the Keras names and structures of its inputs and outputs (``flatbuffer.py``).
Reference: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfgreen.config import Config, data_field
from tfgreen.deploy.artifact import LiteRTModel
from tfgreen.deploy.calibration import calibration_arrays
from tfgreen.deploy.converter import SAVED_MODEL, run_converter, run_converter_apart
from tfgreen.deploy.export import CallSpec, Exported, export, read_call_spec
from tfgreen.deploy.flatbuffer import annotate
from tfgreen.deploy.int4 import pack_int4
from tfgreen.deploy.prepare import half_precision_layers, in_float32, looping_layers, unrolled
from tfgreen.errors import ConversionError, InvalidValueError, invalid_type, invalid_value

if TYPE_CHECKING:
    import keras

QUANTIZATIONS = ("float32", "float16", "dynamic", "int8", "int16x8", "int4")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertConfig(Config):
    """How to convert.

    Attributes:
        quantization: ``"float32"``: as trained. ``"float16"``: weights stored as float16, half the size, computed in
            float32. ``"dynamic"``: weights as int8, activations quantized at run time; tensors below 1024 elements
            stay float32. ``"int8"``: weights and activations int8 from ranges seen on ``calibration_data``, or trained
            by quantization-aware training. ``"int4"``: as int8, but kernels that were trained to 15 values
            (``tg.QuantizeConfig(weight_bits=4)``) are stored in 4 bits. ``"int16x8"``: weights int8, activations int16,
            from ``calibration_data``.
        calibration_data: For ``"int8"``: an array, list or dict of arrays in the structure of the model's inputs, of
            shape ``(samples, *input shape)``, preprocessed exactly as for training. 100 to 1000 samples are usual.
        input_dtype: What the file's inputs store: ``"float32"``, or ``"int8"`` with ``quantization="int8"``.
        output_dtype: The same for the outputs.

    Raises:
        ValueError: An unknown value, or one that does not go with ``quantization``.

    Example:
        >>> ConvertConfig(quantization="float16").to_dict()["config"]["quantization"]
        'float16'
    """

    quantization: str = "float32"
    calibration_data: Any = data_field()
    input_dtype: str = "float32"
    output_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.quantization not in QUANTIZATIONS:
            raise invalid_value("quantization", expected=f"one of {QUANTIZATIONS}", received=repr(self.quantization))
        for name in ("input_dtype", "output_dtype"):
            value = getattr(self, name)
            if value not in ("float32", "int8"):
                raise invalid_value(name, expected="'float32' or 'int8'", received=repr(value))
            if value == "int8" and self.quantization not in ("int8", "int4"):
                raise invalid_value(
                    name,
                    expected=f"'float32' with quantization='{self.quantization}'",
                    received="'int8'",
                    fix="Set quantization='int8' too.",
                )
        if self.calibration_data is not None and not self.integers:
            raise invalid_value(
                "calibration_data",
                expected=f"none with quantization='{self.quantization}'",
                received=type(self.calibration_data).__name__,
                fix="Only 'int8', 'int16x8' and 'int4' calibrate.",
            )

    @property
    def integers(self) -> bool:
        """Whether activations are stored as integers."""
        return self.quantization in ("int8", "int4", "int16x8")


def convert(model: keras.Model, config: ConvertConfig = ConvertConfig()) -> LiteRTModel:
    """Convert a built Keras model to a LiteRT model with a batch of one; the model is left as it is.

    Nothing is printed. What was done besides converting is in ``notes`` of the result: recurrent layers written out
    step by step (TensorFlow's int8 calibration crashes on their loops), float32 instead of ``mixed_float16``, operators
    without an int8 kernel or a trained range. A conversion that may crash the process runs in one of its own.

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
        >>> convert(model)
        <LiteRTModel float32, 1008 bytes, (x: float32[1, 3]) -> (out: float32[1, 2])>
    """
    _check(model, config)
    name, notes = model.name, []
    half = half_precision_layers(model)
    if half:
        model = in_float32(model)
        notes.append(f"Computed in float32 instead of float16: layers {half}.")
    spec = read_call_spec(model)
    with tempfile.TemporaryDirectory(prefix="tfgreen-") as temporary:
        folder = Path(temporary)
        exported = export(model, spec, folder / SAVED_MODEL)
        samples = _samples(model, config, spec, exported, notes)
        hints: list[str] = []
        if config.integers and exported.loops:
            exported = _unroll(model, spec, folder, exported, notes, hints)
        run = run_converter_apart if config.integers and exported.loops else run_converter
        try:
            mode = "int8" if config.quantization == "int4" else config.quantization
            content = run(folder, mode, config.input_dtype, config.output_dtype, samples)
            if config.quantization == "int4":
                content = pack_int4(content)
        except ConversionError as error:
            raise ConversionError(_refused(name, config, exported, hints, error)) from error
    lite = LiteRTModel(content)
    if "VAR_HANDLE" in lite.operators:
        raise ConversionError(
            f"model '{name}': a layer writes to a variable during inference (a stateful RNN?), and a LiteRT file "
            "starts without its value. Build the model without state (stateful=False)."
        )
    if config.integers and lite.float_operators:
        notes.append(f"Operators that compute in float32, without an int8 kernel or a range: {lite.float_operators}.")
    lite = LiteRTModel(annotate(content, spec.structure, exported.outputs, notes))
    lite.new_interpreter()  # an operator that the interpreter lacks shall be known now, not on the device
    return lite


def _check(model: Any, config: Any) -> None:
    import keras

    from tfgreen.model.graph import check_built_model

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


def _samples(
    model: Any, config: ConvertConfig, spec: CallSpec, exported: Exported, notes: list[str]
) -> list[np.ndarray] | None:
    """The calibration arrays, or None where the mode or the model's trained ranges need none."""
    if not config.integers:
        return None
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
    if config.calibration_data is not None:
        return calibration_arrays(config.calibration_data, spec)
    if not exported.fake_quantized or config.quantization == "int16x8":
        raise invalid_value(
            "calibration_data",
            expected=f"samples of the inputs of model '{model.name}', to see the ranges of its activations",
            received="none",
            fix="Pass a few hundred training samples: ConvertConfig(quantization='int8', calibration_data=x[:512]).",
        )
    return None


def _unroll(
    model: Any, spec: CallSpec, folder: Path, exported: Exported, notes: list[str], hints: list[str]
) -> Exported:
    """Export the model again with its recurrent layers unrolled, where it has any that can be."""
    looping = looping_layers(model)
    if not looping:
        return exported
    try:
        exported = export(unrolled(model), spec, folder / SAVED_MODEL)
    except (InvalidValueError, ConversionError) as error:
        hints.append(f"Its recurrent layers {looping} cannot be unrolled: {error}")
        return exported
    notes.append(f"Recurrent layers written out step by step, which int8 needs: {looping}.")
    return exported


def _refused(name: str, config: ConvertConfig, exported: Exported, hints: list[str], error: ConversionError) -> str:
    text = f"model '{name}' cannot be converted with quantization='{config.quantization}': {error}"
    if exported.loops and config.integers:
        text += f"\nIt runs loops ({', '.join(exported.loops)}), on which int8 calibration fails."
        text += " Try quantization='dynamic', or recurrent layers with unroll=True and a fixed number of steps."
    return "\n".join([text, *hints])
