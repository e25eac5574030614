"""Convert a Keras model to a LiteRT (.tflite) model: the front door of ``tfgreen.deploy``.

A :class:`tfgreen.deploy.conversion.record.Conversion` is handed from step to step. Each step is a file of
``deploy/conversion`` and returns the record with its part filled in:

1. ``read``: check the model and the samples, and read what the model is called with.
2. ``prepare``: a copy in float32, without loops or poolings that integers do badly, where there are such.
3. ``place_ranges``: the ranges, bits and layers of choice that TensorFlow's converter has no setting for.
4. ``export``: trace the model on one sample into a SavedModel in a folder; no later step touches the model.
5. ``translate``: TensorFlow's converter makes a file of it, in a process of its own where it may crash.
6. ``finish``: read the file, with 4-bit weights, Keras names and metadata. ``try_file`` runs it in a process of its
   own, where LiteRT's runtime may crash, with sparse weights too; ``check_sizes`` and ``judge`` compare it with the
   model.

Reference: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import keras

from tfgreen.config import resolve_config
from tfgreen.deploy.conversion.config import ConvertConfig, ConvertOptions
from tfgreen.deploy.conversion.export import export
from tfgreen.deploy.conversion.finish import finish
from tfgreen.deploy.conversion.judge import FAR, judge
from tfgreen.deploy.conversion.open_sizes import check_sizes, runs_at_sizes
from tfgreen.deploy.conversion.post_training import place_ranges
from tfgreen.deploy.conversion.prepare import prepare
from tfgreen.deploy.conversion.record import read
from tfgreen.deploy.conversion.translate import translate
from tfgreen.deploy.conversion.trial import try_file
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.apart import Apart
from tfgreen.deploy.tflite.interpreter import try_files
from tfgreen.files import temporary_folder
from tfgreen.model.paths import naming_dtypes

if TYPE_CHECKING:
    from typing_extensions import Unpack


def convert(
    model: keras.Model, config: ConvertConfig | None = None, **options: Unpack[ConvertOptions]
) -> LiteRTModel:
    """Convert a built Keras model to a LiteRT model; the model is left as it is.

    What was done besides converting is in ``notes`` of the result: recurrent layers written out step by step
    (TensorFlow's int8 calibration crashes on their loops), float32 instead of ``mixed_float16``, random augmentation
    left out, operators without an int8 kernel or a trained range. A conversion that may crash the process runs in one
    of its own. Nothing is printed; TensorFlow's converter logs on its own to the process's standard error. Most of that
    ``TF_CPP_MIN_LOG_LEVEL=2``, set before TensorFlow is imported, holds back, but not what it says of a model that it
    refuses, nor a line that begins with ``fully_quantize``.

    Args:
        model: A built Keras 3 model: sequential, functional, nested or subclassed, on the TensorFlow backend. One that
            was trained to be quantized converts to int8 with its trained ranges; it needs calibration data only for
            activations without one, which stay float32 otherwise.
        config: How to convert.
        options: Fields of :class:`ConvertConfig`, instead of ``config`` or to override those of it.

    Returns:
        The artifact. Its inputs and outputs bear the names of the Keras model's, and keep its structure.

    Raises:
        TypeError: ``model`` is no ``keras.Model``, ``config`` no ``ConvertConfig``, or an option no field of it.
        ValueError: The model is not built, or the calibration data is missing or unfit for it.
        ConversionError: The converter refuses the model, or crashes on it.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="out")])
        >>> [tensor.name for tensor in convert(model).outputs]
        ['out']
        >>> convert(model, quantization="float16").quantization
        'float16'
    """
    lite = run_conversion(model, resolve_config(ConvertConfig, config, options))
    for note in lite.notes:
        if note.startswith(FAR):
            warnings.warn(note, stacklevel=2)
    return lite


def run_conversion(model: keras.Model, config: ConvertConfig) -> LiteRTModel:
    """Convert without a warning where the file is far from the model: its note says so."""
    conversion = read(model, config)
    with naming_dtypes(model), temporary_folder() as folder, Apart(try_files) as apart:
        conversion = prepare(conversion)
        conversion = place_ranges(conversion)
        conversion = export(conversion, folder)
        conversion = translate(conversion, folder)
        lite, runs = finish(conversion, folder), runs_at_sizes(conversion)
        lite = try_file(conversion, lite, runs, apart)
    check_sizes(conversion, lite, runs)
    return judge(conversion, lite)
