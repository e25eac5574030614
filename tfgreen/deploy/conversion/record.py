"""Conversion: all that is known of a model on its way into a file, handed from step to step of ``tg.convert``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.storage.integer_weights import StoredIntegers
from tfgreen.errors import ConversionError, InvalidValueError, invalid_value
from tfgreen.model.call_spec import call_model, keeping_state, read_call_spec
from tfgreen.model.fingerprint import fingerprint
from tfgreen.model.paths import check_built_model, weights_by_path
from tfgreen.model.samples import sample_arrays
from tfgreen.structure import CallSpec, Structure
from tfgreen.training.shortfall import shortfall
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.typing import Shape

_ONE_PASS = (
    "The file computes one pass over a sequence. generate() is not in it: its loop and sampling are Python code; "
    "run the file once for each new token."
)


@dataclasses.dataclass(frozen=True)
class Traced:
    """What later steps need to know of the traced graph and of the model, which they do not touch.

    Attributes:
        outputs: The structure of the outputs by name.
        calls: The path of the layer of each call, whose number is in the names of its operations.
        output_calls: The call that made each output; None where unknown.
        loops: The names of the loops.
        fake_quantized: Whether it holds ranges: it was trained to be quantized, or they were placed.
        keeps_float: Whether it holds layers that are to compute in float32 between integers, for which the converter
            would find ranges in samples.
        image_layers: Paths of Keras's layers for images, of which random augmentation does nothing in inference.
        integers: The weights that are integers times scales, computed with in float.
        costly_scales: Whether a scale for each output of the Dense layers would take much of an int8 file.
    """

    outputs: Structure = None
    calls: tuple[str, ...] = ()
    output_calls: tuple[int | None, ...] = ()
    loops: tuple[str, ...] = ()
    fake_quantized: bool = False
    keeps_float: bool = False
    image_layers: frozenset[str] = frozenset()
    integers: tuple[StoredIntegers, ...] = ()
    costly_scales: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Conversion:
    """A model on its way into a file. Each step returns another one, or the same where it does not apply.

    Attributes:
        model: The model passed in, or the copy of it that the last step made.
        config: How to convert.
        name: The name of the model passed in, for errors.
        source: Its fingerprint.
        spec: What it is called with.
        samples: An array for each input, by name, in the order of ``spec.inputs``; None without calibration data.
        original: The model passed in, by which the file is judged.
        notes: Sentences for the user on what was done besides converting.
        unrolled: The recurrent layers that are written out step by step: path -> steps, 0 where unknown.
        traced: What :func:`tfgreen.deploy.conversion.export.export` saw.
    """

    model: keras.Model
    config: ConvertConfig
    name: str
    source: str
    spec: CallSpec
    samples: Mapping[str, np.ndarray] | None
    original: keras.Model
    notes: tuple[str, ...] = ()
    unrolled: Mapping[str, int] = dataclasses.field(default_factory=dict)
    traced: Traced = Traced()

    @property
    def has_open_sizes(self) -> bool:
        """Whether an input leaves a size open besides the batch."""
        return any(None in item.shape for item in self.spec.inputs)

    def missing_samples(self) -> InvalidValueError:
        """The error for a model whose activations get their ranges from nowhere."""
        return invalid_value(
            "calibration_data",
            expected=f"samples of the inputs of model '{self.name}', to see the ranges of its activations",
            received="none",
            fix="Pass a few hundred training samples: "
            f"tg.convert(model, quantization='{self.config.quantization}', calibration_data=x[:512]).",
        )

    def refused(self, reason: str) -> ConversionError:
        """The error for a model that cannot be converted as asked."""
        how = f"with quantization='{self.config.quantization}'"
        hint = " The inputs leave sizes open: try sequence_length=128." if self.has_open_sizes else ""
        return ConversionError(f"model '{self.name}' cannot be converted {how}: {reason}{hint}")

    def rows_are_no_samples(self, name: str, whole: Shape, alone: Shape) -> ConversionError:
        """The error for an output whose shape, of all samples at once, is not that of one after the other."""
        return ConversionError(
            f"model '{self.name}': output '{name}' has shape {whole}, and that of the file, which runs one sample "
            f"after the other, {alone}: its rows are not those of the samples of a batch, or depend on all of them. "
            "Make what is computed together one sample: keras.Input((rows, ...)), with keras.ops.reshape(x, (rows, "
            "...)) first."
        )

    def writes_variable(self, layers: Sequence[str] = ()) -> ConversionError:
        """The error for a model with state, which a file cannot hold."""
        which = f": {list(layers)}" if layers else ""
        return ConversionError(
            f"model '{self.name}': a layer writes to a variable during inference (a stateful RNN?), and a LiteRT file "
            f"starts without its value{which}. Build the model without state (stateful=False)."
        )


def read(model: keras.Model, config: ConvertConfig) -> Conversion:
    """Check a model and its calibration data, and read what the model is called with.

    Raises:
        TypeError: ``model`` is no ``keras.Model``, or the data no numbers.
        ValueError: The model is not built, does not run on TensorFlow, or has NaN weights that are to be integers; or
            the data is unfit for it.
    """
    check_built_model(model)
    if keras.backend.backend() != "tensorflow":
        raise invalid_value(
            "keras backend",
            expected="'tensorflow', whose converter writes .tflite files",
            received=f"'{keras.backend.backend()}'",
            fix="Save the model as .keras and convert it in a process with KERAS_BACKEND=tensorflow.",
        )
    if config.integers:
        _check_numbers(model)
    spec = _of_length(read_call_spec(model), config.sequence_length)
    if config.input_dtype == "int8" and any(not item.dtype.startswith("float") for item in spec.inputs):
        expected = "'float32' for a model with integer inputs, which stay as they are"
        raise invalid_value("input_dtype", expected=expected, received="'int8'")
    samples = None if config.calibration_data is None else sample_arrays(config.calibration_data, spec)
    if config.sequence_length is not None:
        _check_length(model, spec)
    notes = () if config.integers else _notes_on_weights(model)
    if hasattr(model, "generate"):
        notes += (_ONE_PASS,)
    trained = any(layer.ran_training for _, layer in compressed_layers(model))
    notes += (text,) if trained and (text := shortfall(model)) else ()
    return Conversion(model, config, model.name, fingerprint(model), spec, samples, original=model, notes=notes)


def _of_length(spec: CallSpec, length: int | None) -> CallSpec:
    """What a model is called with where the length of its sequences is chosen."""
    if length is None:
        return spec
    inputs = [
        dataclasses.replace(item, shape=(length, *item.shape[1:])) if item.shape[:1] == (None,) else item
        for item in spec.inputs
    ]
    if all(item.shape[:1] != (length,) for item in inputs):
        shapes, fix = {item.name: ("batch", *item.shape) for item in spec.inputs}, "Leave it out."
        expected = f"the length of the model's sequences, of which the inputs {shapes} leave none open"
        raise invalid_value("sequence_length", expected=expected, received=length, fix=fix)
    return dataclasses.replace(spec, inputs=tuple(inputs))


def _check_length(model: keras.Model, spec: CallSpec) -> None:
    """Raise where a model has no positions for sequences as long as they are to be."""
    if any(None in item.shape or item.dtype == "string" for item in spec.inputs):
        return
    shapes = {item.name: (spec.batch or 1, *(size or 1 for size in item.shape)) for item in spec.inputs}
    zeros = {item.name: np.zeros(shapes[item.name], item.dtype) for item in spec.inputs}
    with keeping_state(model):
        try:
            call_model(model, spec, zeros)
        except InvalidValueError:
            raise
        except Exception:  # noqa: B902 - whatever else it is, the converter says what it means by it
            return


def _notes_on_weights(model: keras.Model) -> tuple[str, ...]:
    """What is wrong with weights that a file of floats takes over as they are."""
    infinite = [
        path
        for path, variable in weights_by_path(model).items()
        if keras.backend.is_float_dtype(variable.dtype)
        and not np.isfinite(keras.ops.convert_to_numpy(variable).astype(np.float32, copy=False)).all()
    ]
    note = f"Weights {infinite} hold NaN or infinity: so will outputs. Load a healthy checkpoint."
    return (note,) if infinite else ()


def _check_numbers(model: keras.Model) -> None:
    for path, variable in weights_by_path(model).items():
        if keras.backend.is_float_dtype(variable.dtype):
            count = int(np.isnan(keras.ops.convert_to_numpy(variable)).sum())
            if count:
                subject = f"model '{model.name}', weight '{path}'"
                raise invalid_value(
                    subject, expected="numbers to store as integers", received=f"{count} NaN",
                    fix="Load a healthy checkpoint.",
                )
