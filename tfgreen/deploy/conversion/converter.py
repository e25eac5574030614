"""SavedModel -> bytes of a .tflite file: the one place that calls TensorFlow's converter."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfgreen.errors import ConversionError
from tfgreen.quiet import quiet_native_output

SAVED_MODEL, CALIBRATION, SETTINGS, RESULT, FAILURE = "saved_model", "data.npz", "settings.json", "out.tflite", "failed"

_LOG_LINES = 15
_CALL = re.compile(r"\bcall\.(\d+)/")  # the scope of a layer call, see export.py
_NO_RANGE = re.compile(r"should be recorded during calibration: Failed for tensor (\S+)")
_UNPREPARED = re.compile(r"Node number \d+ \((\w+)\) failed to prepare")
_LACKING = re.compile(r"^(TF Select|Custom) ops: (.+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class ConverterSettings:
    """What TensorFlow's converter is told.

    Attributes:
        quantization: ``"float32"``, ``"float16"``, ``"dynamic"``, ``"int8"`` or ``"int16x8"``.
        input_dtype: ``"float32"`` or ``"int8"``; only read for ``"int8"``.
        output_dtype: The same for the outputs.
        one_dense_scale: Whether the kernel of a Dense layer gets one scale instead of one for each output.
        flex: Whether what LiteRT has no operator for may become TensorFlow's own; only without samples to calibrate.
    """

    quantization: str
    input_dtype: str = "float32"
    output_dtype: str = "float32"
    one_dense_scale: bool = False
    flex: bool = False


def run_converter(folder: Path, settings: ConverterSettings, samples: list[np.ndarray] | None) -> bytes:
    """Convert ``folder/saved_model`` in this process.

    Args:
        folder: Holds the SavedModel that :func:`tfgreen.deploy.conversion.export.export` wrote.
        settings: What to tell the converter.
        samples: One array per input to calibrate int8 ranges from; None where the model carries trained ranges.

    Raises:
        ConversionError: The converter refuses the model. The message holds its reason and the end of its log.
    """
    captured: list[str] = []
    try:
        with quiet_native_output() as captured, warnings.catch_warnings():
            # TensorFlow's own calibrator warns that the interpreter it uses is deprecated: nothing users can act on.
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
            return _convert(folder, settings, samples)
    except Exception as error:  # noqa: B902 - the converter raises its own errors, ValueError, RuntimeError, ...
        raise ConversionError(_reason(error, captured)) from error


def run_converter_apart(folder: Path, settings: ConverterSettings, samples: list[np.ndarray] | None) -> bytes:
    """Do as :func:`run_converter`, in a process of its own, so that a crash of the converter becomes an error.

    Raises:
        ConversionError: As :func:`run_converter`, or the converter's process died.
    """
    (folder / SETTINGS).write_text(json.dumps(dataclasses.asdict(settings)))
    if samples is not None:
        np.savez(folder / CALIBRATION, *samples)
    # The child starts in the temporary folder, so that no file beside the user's script can shadow a module.
    root = str(Path(__file__).parents[3])
    run = f"from tfgreen.deploy.conversion.worker import main; main({str(folder)!r})"
    start = f"import sys; sys.path.insert(0, {root!r}); {run}"
    child = subprocess.run([sys.executable, "-c", start], cwd=folder, capture_output=True, text=True, check=False)
    if (folder / RESULT).exists():
        return (folder / RESULT).read_bytes()
    if (folder / FAILURE).exists():
        raise ConversionError((folder / FAILURE).read_text())
    died = f"was killed by signal {-child.returncode}" if child.returncode < 0 else f"ended with {child.returncode}"
    raise ConversionError(f"TensorFlow's converter crashed: its process {died}.{_tail([child.stderr])}")


def reason_by_layer(reason: str, calls: Sequence[str]) -> str:
    """Put the converter's reason into a sentence that names the layers, where it is a known one.

    Args:
        reason: What :func:`run_converter` raised.
        calls: The path of the layer of each call, see :class:`tfgreen.deploy.conversion.export.Exported`.

    Returns:
        The sentence; the reason as it came where nothing in it leads to a layer.
    """
    numbers = dict.fromkeys(int(n) for n in _CALL.findall(reason) if int(n) < len(calls))
    layers = list(dict.fromkeys(calls[n] for n in sorted(numbers)))
    found = _LACKING.findall(reason)
    lacking = sorted({name.strip() for _, names in found for name in names.split(",")})
    if lacking:
        subject = f"layers {layers} need" if layers else "it needs"
        flex = " A float file may have it, for a runtime with the Flex delegate: ConvertConfig(flex=True)."
        allows = flex if all(kind == "TF Select" for kind, _ in found) else ""
        return f"{subject} {', '.join(lacking)}, for which LiteRT has no operator.{allows}"
    no_range = _NO_RANGE.search(reason)
    if no_range:
        place = f"layers {layers}" if layers else no_range[1].removeprefix("serving_default_").removesuffix(":0")
        return f"{place}: with 16-bit activations TensorFlow wants a range for every tensor, and has none for integers."
    unprepared = _UNPREPARED.search(reason)
    if unprepared:
        return f"TensorFlow's calibration cannot run {unprepared[1]}: {reason}"
    return f"layers {layers}: {reason}" if layers else reason


def _convert(folder: Path, settings: ConverterSettings, samples: list[np.ndarray] | None) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / SAVED_MODEL))
    if settings.quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if settings.quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    converter._experimental_disable_per_channel_quantization_for_dense_layers = settings.one_dense_scale
    if settings.flex:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    if samples is not None:
        converter.representative_dataset = lambda: _one_by_one(samples)
    if settings.quantization == "int8":
        converter.inference_input_type = getattr(tf, settings.input_dtype)
        converter.inference_output_type = getattr(tf, settings.output_dtype)
        if samples is not None:
            # Integer kernels only. With trained ranges and no data TensorFlow refuses this setting, and what has no
            # range stays float32.
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if settings.quantization == "int16x8":
        ops = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [ops, tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def _one_by_one(samples: list[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    for k in range(len(samples[0])):
        yield {f"input_{i}": array[k : k + 1] for i, array in enumerate(samples)}


def _reason(error: Exception, captured: list[str]) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return "\n".join(lines[:_LOG_LINES])[:2000] + _tail(captured)


def _tail(captured: list[str]) -> str:
    lines = [line for text in captured for line in text.splitlines() if line.strip()]
    return "\nThe end of its log:\n" + "\n".join(lines[-_LOG_LINES:])[-3000:] if lines else ""
