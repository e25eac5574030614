"""Check calibration data: is it what the model was trained on? Ranges seen on other data make a bad int8 file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np

from tfgreen.deploy.inspection.findings import Finding, Findings
from tfgreen.model.batch_norm import norm_parameters
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.layer_calls import around_calls
from tfgreen.model.paths import check_built_model, own_weights, walk
from tfgreen.model.samples import sample_arrays
from tfgreen.structure import CallSpec, InputSpec
from tfgreen.typing import Samples, Tensor

_FEW = 64  # samples; 100 to 1000 are usual
_RUN, _BATCH, _ROWS = 128, 16, 4096  # samples that the model runs on, at a time, and rows of each batch
_ENOUGH = 48  # samples, where these make as many rows
_VALUES = 2**18  # of the inputs of one batch: Keras holds every tensor of a large model until the end
_ALIKE = 0.05  # correlation of neighbours below which nothing in nature lies
_SPREAD = 3.0  # how many times wider or narrower than in training is another scale
_FAR_SPREAD = 10.0  # and where a normalization that has hardly begun to learn might explain it
_SHIFT = 3.0  # standard deviations by which a mean is off
_SWAPPED = 0.5  # share of the distance from training that is left where swapped channels are put right
_VOUCHED = 0.2  # distance from training below which a normalization knows the data
_APART = 0.05  # distance from training that is worth a look
_STRETCHED = 20.0  # largest magnitude over the 99.9th percentile


def check_calibration(model: keras.Model, calibration_data: Samples) -> Findings:
    """Look for signs, not proofs, that calibration data is not what a model was trained on.

    These are: few samples, or all alike; channels of images (last axis) that never change; images that look random
    (neighbours are not alike); a few values far outside all others; and what ``BatchNormalization``, ``Normalization``
    and ``Rescaling`` layers know of the data in training: another scale, as when images are divided by 255 twice, and
    the channels of images in reverse (BGR for RGB). Moving statistics that few steps have brought on their way from 0
    and 1 count as what they are, so that the data of training itself raises no word. ``tg.convert`` notes the same in
    its file.

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
    if array.ndim == 4:
        still = np.flatnonzero(np.ptp(array.reshape(-1, array.shape[-1]), axis=0) == 0)
        if len(still):
            which = f"channels {_some(still)}" if len(still) > 1 else f"channel {still[0]}"
            yield Finding(subject, f"{which} (last axis) never changes, so its range in use is not seen.")
    most, largest = np.percentile(np.abs(array), (99.9, 100))
    if most and largest / most > _STRETCHED:
        message = f"its largest value is {largest / most:.0f} times the 99.9th percentile and stretches the range."
        yield Finding(subject, message, "calibration='percentile' leaves it out of the range of an int8 file.")


def _of_noise(item: InputSpec, array: np.ndarray) -> Iterator[Finding]:
    """Whether images look random."""
    if not item.dtype.startswith("float") or array.ndim != 4 or array.shape[-1] not in (1, 3, 4):
        return
    views = [np.moveaxis(array[:_RUN], axis, 0) for axis in (1, 2) if array.shape[axis] >= 4]
    neighbours = [(along[:-1].ravel(), along[1:].ravel()) for along in views]
    if not neighbours:
        return
    one, other = (np.concatenate(parts).astype(np.float64) for parts in zip(*neighbours))
    likeness = float(np.corrcoef(one, other)[0, 1]) if len(one) >= 1000 and one.std() and other.std() else 1.0
    if abs(likeness) < _ALIKE:
        message = f"neighbouring values are no more alike than random ones (correlation {likeness:.3f})."
        fix = "Pass samples from training, unless these are: random data has other ranges."
        yield Finding(f"Calibration data of input '{item.name}'", message, fix)


def _of_layers(model: keras.Model, spec: CallSpec, arrays: Sequence[np.ndarray]) -> Iterator[Finding]:
    """What layers show that know the data they were trained on, up to the first normalization."""
    layers, vouched = dict(walk(model)), False
    outputs = _run(model, spec, arrays, layers)
    for path, output in outputs.items():
        layer = layers[path]
        if isinstance(layer, keras.layers.Rescaling):
            yield from _of_rescaling(path, layer, output)
            continue
        seen = _Seen.of(layer, output)
        if seen is not None:
            vouched = seen.distance < _VOUCHED
            yield from _of_scale(path, seen)
            yield from _of_order(model, spec, arrays, path, seen)
        break
    for item, array in zip(spec.inputs, () if vouched else arrays):
        yield from _of_noise(item, array)


def _run(
    model: keras.Model, spec: CallSpec, arrays: Sequence[np.ndarray], layers: Mapping[str, keras.Layer]
) -> dict[str, np.ndarray]:
    """Outputs of the layers that know a scale, as rows of channels."""
    picked = np.linspace(0, len(arrays[0]) - 1, min(len(arrays[0]), _RUN)).astype(int)
    rows = dict[str, list[np.ndarray]]()
    size = max(1, min(_BATCH, _VALUES // max(1, sum(array[:1].size for array in arrays))))
    with _recording(layers, rows):
        for part in spec.slices(len(picked), size):
            batch = picked[part]
            call_model(model, spec, {item.name: array[batch] for item, array in zip(spec.inputs, arrays)})
            enough = part.stop >= _ENOUGH and all(sum(map(len, parts)) >= _ROWS for parts in rows.values())
            if not rows or enough:
                break
    return {path: np.concatenate(parts) for path, parts in rows.items()}


def _recording(layers: Mapping[str, keras.Layer], rows: dict[str, list[np.ndarray]]) -> AbstractContextManager[None]:
    """Put outputs of the layers that know a scale, and no others, into ``rows`` up to the first normalization; those of
    a ``Rescaling`` where it comes before all weights, since what it takes in is no data after them."""
    normalizing = (keras.layers.Normalization, keras.layers.BatchNormalization)
    known = {layer: path for path, layer in layers.items() if isinstance(layer, (keras.layers.Rescaling, *normalizing))}
    weighted = {layer for layer in layers.values() if layer not in known and _has_kernel(layer)}
    passed = set[keras.Layer]()

    def around(layer: keras.Layer, call: Callable[..., Tensor], /, *args: Any, **kwargs: Any) -> Tensor:
        output, path = call(*args, **kwargs), known.get(layer, "")
        if layer in weighted:
            passed.add(layer)
        if layer in weighted or (passed and isinstance(layer, keras.layers.Rescaling)):
            return output
        if path in rows or not any(isinstance(layers[other], normalizing) for other in rows):
            axis = layer.axis if isinstance(layer, keras.layers.BatchNormalization) else -1
            flat = np.moveaxis(np.asarray(output), axis, -1).reshape(-1, output.shape[axis])
            rows.setdefault(path, []).append(flat[:: -(-len(flat) // _ROWS)].astype(np.float64))
        return output

    return around_calls([*known, *weighted], around)


def _has_kernel(layer: keras.Layer) -> bool:
    return any(keras.backend.is_float_dtype(variable.dtype) for variable in own_weights(layer).values())  # no seed


def _of_rescaling(path: str, layer: keras.layers.Rescaling, output: np.ndarray) -> Iterator[Finding]:
    scale, largest = float(np.abs(layer.scale).max()), float(np.abs(output - np.asarray(layer.offset)).max())
    if scale < 1 / 64 and 0 < largest < 1 / 32:
        message = f"it multiplies the calibration data by {scale:.3g}, and the largest value is then {largest:.2g}."
        yield Finding(f"Layer '{path}'", message, "The data was probably scaled before: pass it as the model takes it.")


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What a normalization saw in training, beside what it sees of the calibration data, channel by channel.

    Attributes:
        spread: How many times as wide the data is, the median of the channels.
        shift: By how many standard deviations its mean is off.
        distance: Of all means and deviations together; 0 where they are equal.
    """

    spread: float
    shift: float
    distance: float

    @classmethod
    def of(cls, layer: keras.Layer, output: np.ndarray) -> _Seen | None:
        """None where the layer has learned nothing."""
        least = 1.0
        mean, variance, rows = np.zeros(output.shape[1]), np.ones(output.shape[1]), output
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (np.asarray(x) for x in norm_parameters(layer, "float64"))
            used = (np.abs(gamma) > 1e-4) & (variance > 1e-6) & ((mean != 0) | (variance != 1))
            mean, variance = mean[used], variance[used] + layer.epsilon
            rows = (output[:, used] - beta[used]) / gamma[used] * np.sqrt(variance) + mean
            least = 1 - layer.momentum  # one step takes in this share of a batch
        if not rows.size:
            return None
        seen_mean, seen = rows.mean(axis=0), np.maximum(rows.var(axis=0), 1e-30)
        if isinstance(layer, keras.layers.BatchNormalization):
            # After k steps the statistics are m**k of what they began with and 1 - m**k of the data's: between these.
            ends = np.sort([1 + least * (seen - 1), seen], axis=0)
            reached, to = np.clip(variance, *ends), np.sort([least * seen_mean, seen_mean], axis=0)
        else:
            reached, to = seen, np.array([seen_mean, seen_mean])
        shift = np.abs(np.clip(mean, *to) - mean) / np.sqrt(variance)
        apart = (seen_mean - mean) ** 2 / variance + np.log(seen / variance) ** 2 / 4
        spread = float(np.sqrt(np.median(reached / variance)))
        wide, logs = float(np.sqrt(np.median(seen / variance))), (np.log(seen), np.log(variance))
        if wide < 1 / _FAR_SPREAD and len(seen) > 3 and min(map(np.std, logs)) > 0.05 and np.polyfit(*logs, 1)[0] > 0.5:
            # Statistics near their start are alike whatever the data; these follow it, and so have learned its scale.
            spread = wide
        return cls(spread, float(np.median(shift)), float(np.mean(apart)))


def _of_scale(path: str, seen: _Seen) -> Iterator[Finding]:
    if not 1 / _SPREAD < seen.spread < _SPREAD or seen.shift > _SHIFT:
        message = (
            f"its input is spread {seen.spread:.3g} times as wide as in training, with means {seen.shift:.2g} standard "
            "deviations off: the calibration data has another scale."
        )
        yield Finding(f"Layer '{path}'", message, "Preprocess it exactly as for training, once.")


def _of_order(
    model: keras.Model, spec: CallSpec, arrays: Sequence[np.ndarray], path: str, seen: _Seen
) -> Iterator[Finding]:
    """Whether the colours of images are closer to those of training in reverse."""
    if len(arrays) != 1 or arrays[0].ndim != 4 or arrays[0].shape[-1] != 3 or seen.distance < _APART:
        return
    layers = dict(walk(model))
    swapped = _Seen.of(layers[path], _run(model, spec, [arrays[0][..., ::-1]], layers)[path])
    if swapped is not None and swapped.distance < _SWAPPED * seen.distance:
        closer = seen.distance / swapped.distance
        message = f"with its colours in reverse the data is {closer:.1f} times closer to that of training."
        fix = "Pass x[..., ::-1] if the model was trained on that order (RGB or BGR)."
        yield Finding(f"Layer '{path}'", message, fix)


def _some(numbers: np.ndarray) -> str:
    listed = ", ".join(str(number) for number in numbers[:5])
    return listed if len(numbers) <= 5 else f"{listed} and {len(numbers) - 5} more"
