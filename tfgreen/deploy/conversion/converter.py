"""SavedModel -> bytes of a .tflite file: the one place that calls TensorFlow's converter."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfgreen.deploy.conversion.config import EdgeDtype, Quantization
from tfgreen.deploy.conversion.wide_activations import with_16_bits
from tfgreen.errors import ConversionError

# What the folder of a conversion holds.
SAVED_MODEL, CALIBRATION, RESULT, FAILURE = "saved_model", "data.npz", "out.tflite", "failed"
SIGNATURE = "serving_default"  # of the saved model
STARTED = "worker: TensorFlow is imported\n"  # in a worker's log, before what is worth telling

_LOG_LINES = 15
_filters_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class ConverterSettings:
    """What TensorFlow's converter is told; see :class:`tfgreen.ConvertConfig`.

    With ``one_dense_scale`` the kernel of a Dense layer gets one scale instead of one for each output. ``"int4"`` is
    what :func:`tfgreen.deploy.conversion.finish.finish` makes of an ``"int8"`` file, ``"float16"`` of a ``"float32"``.
    """

    quantization: Quantization
    input_dtype: EdgeDtype = "float32"
    output_dtype: EdgeDtype = "float32"
    one_dense_scale: bool = False
    flex: bool = False


def run_converter(folder: Path, settings: ConverterSettings, samples: Sequence[np.ndarray] | None) -> None:
    """Convert ``folder/saved_model`` to ``folder/out.tflite`` in this process, with ranges from one array of samples
    per input; without them the model carries its ranges.

    Raises:
        ConversionError: The converter refuses the model. The message holds its reason.
    """
    try:
        with errors_only(), _deprecation_ignored() if len(samples or ()) > 1 else contextlib.nullcontext():
            content = _convert(folder, settings, samples)
    except Exception as error:  # noqa: B902 - the converter raises its own errors, ValueError, RuntimeError, ...
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ConversionError("\n".join(lines[:_LOG_LINES])[:2000]) from error
    # Renamed into place: a worker that dies while writing must not leave half a result.
    (folder / f"{RESULT}.part").write_bytes(content)
    (folder / f"{RESULT}.part").rename(folder / RESULT)


def run_in_worker(folder: Path, settings: ConverterSettings, samples: Sequence[np.ndarray] | None) -> None:
    """Do as :func:`run_converter`, in a process of its own, so that a crash of the converter becomes an error.

    Raises:
        ConversionError: As :func:`run_converter`, or the converter's process died.
    """
    if samples is not None:
        np.savez(folder / CALIBRATION, *samples)
    # The child starts in the temporary folder, so that no file beside the user's script can shadow a module.
    root = str(Path(__file__).parents[3])
    run = f"from tfgreen.deploy.conversion.worker import main; main({str(folder)!r}, {dataclasses.asdict(settings)!r})"
    start, quiet = f"import sys; sys.path.insert(0, {root!r}); {run}", {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    child = subprocess.run([sys.executable, "-c", start], cwd=folder, env=quiet, capture_output=True, text=True)
    if (folder / FAILURE).exists():
        raise ConversionError((folder / FAILURE).read_text())
    if not (folder / RESULT).exists():
        died = f"was killed by signal {-child.returncode}" if child.returncode < 0 else f"ended with {child.returncode}"
        log = [line for line in child.stderr.rpartition(STARTED)[2].splitlines() if line.strip()]
        tail = "\nThe end of its log:\n" + "\n".join(log[-_LOG_LINES:])[-3000:] if log else ""
        raise ConversionError(f"TensorFlow's converter crashed: its process {died}.{tail}")


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """Hold back what TensorFlow's Python logger says in this thread below errors: in a notebook, progress."""
    logger, thread = logging.getLogger("tensorflow"), threading.get_ident()

    def is_wanted(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno >= logging.ERROR

    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)


@contextlib.contextmanager
def _deprecation_ignored() -> Iterator[None]:
    """Given several inputs TensorFlow warns that the interpreter it uses is deprecated: nothing users can act on."""
    # Filters are the process's: two threads that enter and leave in turn would leave each other's behind.
    with _filters_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
        yield


def _convert(folder: Path, settings: ConverterSettings, samples: Sequence[np.ndarray] | None) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.lite import TFLiteSavedModelConverterV2

    # What from_saved_model() makes once it has loaded the model, weights and all, to look up the name of its signature.
    converter = TFLiteSavedModelConverterV2(str(folder / SAVED_MODEL), {tf.saved_model.SERVING}, [SIGNATURE])
    # No runtime reads these 160 bytes, and one of them, kept by a class, differs where two threads convert at once.
    converter.exclude_conversion_metadata = True
    if settings.quantization not in ("float32", "float16"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = settings.one_dense_scale
    ops = tf.lite.OpsSet
    if settings.flex:
        converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS, ops.SELECT_TF_OPS]
    if samples is not None:
        converter.representative_dataset = lambda: _one_by_one(samples)
    if settings.quantization == "int8":
        converter.inference_input_type = getattr(tf, settings.input_dtype)
        converter.inference_output_type = getattr(tf, settings.output_dtype)
        if samples is not None:
            # Integer kernels only. With trained ranges and no data TensorFlow refuses this setting, and what has no
            # range stays float32.
            converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS_INT8]
    if settings.quantization == "int16x8":
        wide = ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wide, ops.TFLITE_BUILTINS]
        converter._experimental_calibrate_only = True
        return with_16_bits(converter.convert())
    return converter.convert()


def _one_by_one(samples: Sequence[np.ndarray]) -> Iterator[list[np.ndarray] | dict[str, np.ndarray]]:
    for k in range(len(samples[0])):
        sample = [array[k : k + 1] for array in samples]
        # By name, TensorFlow maps it through an interpreter of its own; its order of several inputs is unknown here.
        yield sample if len(sample) == 1 else {f"input_{i}": array for i, array in enumerate(sample)}
