"""Check calibration data: is it what the model was trained on? Ranges seen on other data make a bad int8 file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from tfgreen.deploy.inspection.findings import Finding, Findings
from tfgreen.model.batch_norm import norm_parameters
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.layer_calls import around_calls
from tfgreen.model.paths import check_built_model, walk
from tfgreen.model.samples import sample_arrays
from tfgreen.structure import CallSpec, InputSpec
from tfgreen.typing import Samples, Tensor

_FEW = 64  # samples; 100 to 1000 are usual
_RUN, _BATCH, _ROWS = 128, 16, 4096  # samples that the model runs on, at a time, and rows of each batch
_VALUES = 2**18  # of the inputs of one batch: Keras holds every tensor of a large model until the end
_PER_CLASS = 10  # samples per class from which on a class that is never predicted is worth a word
_ALIKE = 0.05  # correlation of neighbours below which nothing in nature lies
_SPREAD = 3.0  # how many times wider or narrower than in training is another scale
_SHIFT = 3.0  # standard deviations by which a mean is off
_STRETCHED = 20.0  # largest magnitude over the 99.9th percentile


def check_calibration(model: keras.Model, calibration_data: Samples) -> Findings:
    """Look for signs, not proofs, that calibration data is not what a model was trained on.

    These are: few samples, or all alike; channels (last axis) that never change; values that look random (neighbours
    along the axes before the last are not alike); a few values far outside all others; another scale than in training,
    judged by what comes out of ``BatchNormalization``, ``Normalization`` and ``Rescaling`` layers, as when images are
    divided by 255 twice; and classes that the model predicts for no sample. ``tg.convert`` notes the same in its file.

    Args:
        model: A built Keras model.
        calibration_data: As for ``ConvertConfig``. A generator is used up.

    Raises:
        TypeError, ValueError: The data is unfit for the model, see :func:`tfgreen.convert`.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((4, 4, 1), name="image"), keras.layers.Flatten()])
        >>> print(tg.check_calibration(model, np.ones((100, 4, 4, 1))))
        warning: Calibration data of input 'image': all 100 samples are the same.
    """
    check_built_model(model)
    spec = read_call_spec(model)
    return Findings(calibration_findings(model, spec, list(sample_arrays(calibration_data, spec).values())))


def calibration_findings(model: keras.Model, spec: CallSpec, arrays: Sequence[np.ndarray]) -> Iterator[Finding]:
    """What :func:`check_calibration` finds in arrays of shape ``(samples, ...)``, one per input of ``spec``."""
    if len(arrays[0]) < _FEW:
        message = f"{len(arrays[0])} samples are few for the ranges of activations; 100 to 1000 are usual."
        yield Finding("Calibration data", message)
    for item, array in zip(spec.inputs, arrays):
        if item.dtype.startswith("float"):
            yield from _of_values(item, array)
    yield from _of_layers(model, spec, arrays)


def _of_values(item: InputSpec, array: np.ndarray) -> Iterator[Finding]:
    """What the values of one input show by themselves."""
    subject = f"Calibration data of input '{item.name}'"
    if len(array) > 1 and (array == array[0]).all():
        yield Finding(subject, f"all {len(array)} samples are the same.")
        return
    if array.ndim > 1:
        still = np.flatnonzero(np.ptp(array.reshape(-1, array.shape[-1]), axis=0) == 0)
        if len(still):
            which = f"channels {_some(still)}" if len(still) > 1 else f"channel {still[0]}"
            yield Finding(subject, f"{which} (last axis) never changes, so its range in use is not seen.")
    most, largest = np.percentile(np.abs(array), (99.9, 100))
    if most and largest / most > _STRETCHED:
        message = f"its largest value is {largest / most:.0f} times the 99.9th percentile and stretches the range."
        yield Finding(subject, message, "Leave such samples out, or set calibration='percentile'.")
    likeness = _likeness_of_neighbours(array)
    if likeness is not None and abs(likeness) < _ALIKE:
        message = f"neighbouring values are no more alike than random ones (correlation {likeness:.3f})."
        yield Finding(subject, message, "Pass samples from training: random data has other ranges.")


def _likeness_of_neighbours(array: np.ndarray) -> float | None:
    """Correlation of neighbours along the axes between the first and the last; None for too few to tell."""
    axes = [axis for axis in range(1, array.ndim - 1) if array.shape[axis] >= 4]
    views = [np.moveaxis(array[:_RUN], axis, 0) for axis in axes]
    neighbours = [(along[:-1].ravel(), along[1:].ravel()) for along in views]
    if not neighbours:
        return None
    one, other = (np.concatenate(parts).astype(np.float64) for parts in zip(*neighbours))
    return float(np.corrcoef(one, other)[0, 1]) if len(one) >= 1000 and one.std() and other.std() else None


def _of_layers(model: keras.Model, spec: CallSpec, arrays: Sequence[np.ndarray]) -> Iterator[Finding]:
    """What layers show that know the data they were trained on, up to the first normalization."""
    layers = dict(walk(model))
    outputs, scores = _run(model, spec, arrays, layers)
    for path, output in outputs.items():
        layer = layers[path]
        if isinstance(layer, keras.layers.Rescaling):
            yield from _of_rescaling(path, layer, output)
        else:
            yield from _of_scale(path, _normalized(layer, output))
            break
    if scores is not None:
        yield from _of_classes(scores)


def _run(
    model: keras.Model, spec: CallSpec, arrays: Sequence[np.ndarray], layers: Mapping[str, keras.Layer]
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Outputs of the layers that know a scale, as rows of channels, and the model's output if it is one matrix."""
    picked = np.linspace(0, len(arrays[0]) - 1, min(len(arrays[0]), _RUN)).astype(int)
    rows, scores = dict[str, list[np.ndarray]](), list[np.ndarray]()
    size = max(1, min(_BATCH, _VALUES // max(1, sum(array[0].size for array in arrays))))
    with _recording(layers, rows):
        for start in range(0, len(picked), size):
            batch = picked[start : start + size]
            result = call_model(model, spec, {item.name: array[batch] for item, array in zip(spec.inputs, arrays)})
            if not isinstance(result, (list, tuple, dict)) and len(result.shape) == 2:
                scores.append(np.asarray(result))
            judged = bool(scores) and 2 < scores[0].shape[1] <= len(picked) // _PER_CLASS
            if not judged and start + size >= _BATCH and all(sum(map(len, parts)) >= _ROWS for parts in rows.values()):
                break
    return {path: np.concatenate(parts) for path, parts in rows.items()}, np.concatenate(scores) if scores else None


def _recording(layers: Mapping[str, keras.Layer], rows: dict[str, list[np.ndarray]]) -> AbstractContextManager[None]:
    """Put outputs of the layers that know a scale, and no others, into ``rows`` up to the first normalization."""
    normalizing = (keras.layers.Normalization, keras.layers.BatchNormalization)
    known = {layer: path for path, layer in layers.items() if isinstance(layer, (keras.layers.Rescaling, *normalizing))}

    def around(layer: keras.Layer, call: Callable[..., Tensor], /, *args: Any, **kwargs: Any) -> Tensor:
        output, path = call(*args, **kwargs), known[layer]
        if path in rows or not any(isinstance(layers[other], normalizing) for other in rows):
            axis = layer.axis if isinstance(layer, keras.layers.BatchNormalization) else -1
            flat = np.moveaxis(np.asarray(output), axis, -1).reshape(-1, output.shape[axis])
            rows.setdefault(path, []).append(flat[:: -(-len(flat) // _ROWS)].astype(np.float64))
        return output

    return around_calls(known, around)


def _of_rescaling(path: str, layer: keras.layers.Rescaling, output: np.ndarray) -> Iterator[Finding]:
    scale, largest = float(np.abs(layer.scale).max()), float(np.abs(output - np.asarray(layer.offset)).max())
    if scale < 1 / 64 and 0 < largest < 1 / 32:
        message = f"it multiplies the calibration data by {scale:.3g}, and the largest value is then {largest:.2g}."
        yield Finding(f"Layer '{path}'", message, "The data was probably scaled before: pass it as the model takes it.")


def _normalized(layer: keras.Layer, output: np.ndarray) -> np.ndarray:
    """Rows of the output of a normalization before gamma and beta, for its trained channels only."""
    if isinstance(layer, keras.layers.Normalization):
        return output
    gamma, beta, mean, variance = map(np.asarray, norm_parameters(layer, "float64"))
    used = (np.abs(gamma) > 1e-4) & (variance > 1e-6) & ((mean != 0) | (variance != 1))
    return (output[:, used] - beta[used]) / gamma[used]


def _of_scale(path: str, rows: np.ndarray) -> Iterator[Finding]:
    """What values show that had a mean of 0 and a variance of 1 per channel in training."""
    if not rows.size:
        return
    spread, shift = float(np.median(rows.std(axis=0))), float(np.median(np.abs(rows.mean(axis=0))))
    if not 1 / _SPREAD < spread < _SPREAD or shift > _SHIFT:
        message = (
            f"its input is spread {spread:.3g} times as wide as in training, with means {shift:.2g} standard "
            "deviations off: the calibration data has another scale."
        )
        yield Finding(f"Layer '{path}'", message, "Preprocess it exactly as for training, once.")


def _of_classes(scores: np.ndarray) -> Iterator[Finding]:
    count, classes = scores.shape
    missing = np.setdiff1d(np.arange(classes), scores.argmax(axis=1))
    if classes > 2 and count >= _PER_CLASS * classes and len(missing):
        message = f"the model predicts {_some(missing)} of {classes} classes for none of {count} samples."
        yield Finding("Calibration data", message, "Take samples of all classes.")


def _some(numbers: np.ndarray) -> str:
    listed = ", ".join(str(number) for number in numbers[:5])
    return listed if len(numbers) <= 5 else f"{listed} and {len(numbers) - 5} more"
