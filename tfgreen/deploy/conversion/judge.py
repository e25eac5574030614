"""Judge a new file: run it on a few samples, and say so where it is far from the model.

A file may convert without a word and compute something else: a range that clips, an operator that the converter gets
wrong. Whoever converts shall hear of it at once, with the layer and a remedy. The samples are of the calibration data,
or made up within the ranges of a trained model, which say nothing of a range that is too wide.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import keras
import numpy as np

from tfgreen.deploy.conversion.made_samples import made_samples
from tfgreen.deploy.conversion.post_training import with_ranges
from tfgreen.deploy.conversion.record import Conversion
from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.inspection.output_errors import DEFAULT_LIMITS
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.flatbuffer import parse, set_metadata
from tfgreen.deploy.tflite.writing import write
from tfgreen.errors import ConversionError
from tfgreen.model.call_spec import outputs_of
from tfgreen.model.internals import is_container
from tfgreen.quantization.feature_scales import lost_channels
from tfgreen.structure import match, pack
from tfgreen.techniques.quantize import is_quantized
from tfgreen.techniques.shared_scales import shared_scale_loss
from tfgreen.typing import Arrays

FAR = "The file is far from model"  # how the note begins
_UNSEEN = "The file was not compared with the model, because its ranges do not say what goes into"
_UNSEEN_FIX = "(fixed sizes, and trained ranges or tables to look up, would): look with tg.verify(model, lite, x)."
_SAMPLES, _MORE_SAMPLES = 8, 128
_FAR_SCALES, _FAR_DB, _LEAST_SCALES = 4.0, 10.0, 2.0
_LEAST_EQUAL_MADE, _FEW = 0.5, 4  # integers of made-up samples, between classes as often as not; that may be chance
_LEAST_RANGE = 3e-6  # below which the converter widens ranges
_MUCH_OF_RANGE = 64.0  # scales of 255, which no outlier has made too wide


@dataclasses.dataclass(frozen=True)
class OutputDistance:
    """How far an output of a file is from the model's on the median sample, which an outlier in the data does not move.

    Attributes:
        scales: Mean error, in scales of the output.
        sqnr_db: Ratio of signal to noise; NaN if the file returns what is not finite.
        signal_scales: The deviation of the model's output from its median over the samples, in scales.
        constant: Whether the file returns one number for outputs that differ.
        level_scales: The median magnitude of the model's output, in scales.
    """

    scales: float
    sqnr_db: float
    signal_scales: float
    constant: bool
    level_scales: float

    @property
    def is_far(self) -> bool:
        """Whether the output is of no use: the noise is a tenth of the signal's power, because the file computes
        something else or because its range is so wide that rounding leaves little."""
        lost = self.sqnr_db < _FAR_DB and (self.scales > _FAR_SCALES or self.signal_scales < _LEAST_SCALES)
        return self.constant or math.isnan(self.sqnr_db) or lost

    def __str__(self) -> str:
        if self.constant:
            return "it is constant"
        return f"it is {self.scales:.1f} scales off on average, signal over noise {self.sqnr_db:.1f} dB"


def distance(expected: np.ndarray, got: np.ndarray, scale: float | None) -> OutputDistance:
    """Compare an output of the model with that of its file, of shape (samples, ...); without a scale, 1/255 of the
    range is one.

    Example:
        >>> expected = np.linspace(-1.0, 1.0, 9)
        >>> str(distance(expected, np.clip(expected, -0.25, 0.25), 0.01))
        'it is 25.0 scales off on average, signal over noise 6.0 dB'
    """
    expected, got = (x.astype(np.float64).reshape(len(x), -1) for x in (expected, got))
    scale = scale or float(np.ptp(expected)) / 255 or 1.0
    error, deviation = expected - got, expected - np.median(expected, axis=0)
    if len(expected) == 1:
        deviation = expected - expected.mean()
    signal, noise = (float(np.median((x**2).mean(axis=1))) for x in (deviation, error))
    sqnr = math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal > 0 else -math.inf
    constant = got.size > 1 and float(np.ptp(got)) == 0 and math.sqrt(signal) > _FAR_SCALES * scale
    scales = float(np.median(np.abs(error).mean(axis=1))) / scale
    # The scale of a softmax or sigmoid holds whatever the data, and a constant output has no range to be too wide.
    signal_scales = math.inf if scale == 1 / 256 or signal == 0 else math.sqrt(signal) / scale
    level = float(np.median(np.abs(expected))) / scale
    return OutputDistance(scales, sqnr if np.isfinite(error).all() else math.nan, signal_scales, constant, level)


@dataclasses.dataclass(frozen=True)
class IntegerDistance:
    """How far an output of integers (classes, counts, booleans) of a file is from the model's.

    Attributes:
        equal: The share of positions at which both return the same.
        is_far: Whether that is less than :func:`tfgreen.verify` allows, or the file misses most of what is rare: the
            positions at which the model does not return its most frequent number.
    """

    equal: float
    is_far: bool

    def __str__(self) -> str:
        return f"{self.equal:.0%} of its integers are equal"


def integer_distance(expected: np.ndarray, got: np.ndarray, least: float) -> IntegerDistance:
    """Compare integers of the model with those of its file, of the same shape, of which a share has to be equal.

    Example:
        >>> print(integer_distance(np.array([3, 1, 2, 2]), np.array([3, 1, 2, 0]), 0.9))
        75% of its integers are equal
    """
    differ = int((expected != got).sum())
    _, counts = np.unique(expected, return_counts=True)
    rare = expected.size - int(counts.max(initial=0))
    equal = 1 - differ / max(expected.size, 1)
    return IntegerDistance(equal, equal < least or (differ >= _FEW and differ > rare / 2))


def judge(conversion: Conversion, lite: LiteRTModel) -> LiteRTModel:
    """Return the artifact, with a note if it is far from the model passed in.

    Raises:
        ConversionError: LiteRT's interpreter refuses the file; ``strict``, and the file is far from the model.
    """
    if any(operator.startswith("Flex") for operator in lite.operators):
        return lite
    # Integers are equal or not, which few samples say little of.
    count = _MORE_SAMPLES if any(info.dtype[0] in "iub" for info in lite.outputs if info.scale is None) else _SAMPLES
    samples = {k: v[:count] for k, v in (conversion.samples or {}).items()}
    made = not samples and is_quantized(conversion.original)
    if made:
        samples = made_samples(conversion, count)
    unknown = [item.name for item in conversion.spec.inputs if item.name not in samples]
    try:
        if not unknown:
            got = match(lite.output_structure, lite.predict(samples), "output")
            expected = outputs_of(conversion.original, conversion.spec, samples, _SAMPLES)
        elif not conversion.has_open_sizes:
            lite.new_interpreter()
    except ConversionError as error:
        if not made or unknown:
            raise cannot_run(conversion, lite, error) from error
        unknown = list(samples)
    except Exception:  # noqa: B902 - a model raises anything for made-up labels that it does not have
        if not made:
            raise
        unknown = list(samples)
    if unknown:
        return with_notes(lite, f"{_UNSEEN} {unknown} {_UNSEEN_FIX}") if made else lite
    scales = lite.output_scales
    pairs = zip(got.items(), expected)
    found: dict[str, OutputDistance] = {}
    integers: dict[str, IntegerDistance] = {}
    least = _LEAST_EQUAL_MADE if made else DEFAULT_LIMITS[lite.quantization].agreement
    for (name, y), x in pairs:
        if x.dtype.kind in "iub":
            integers[name] = integer_distance(x, y, least)
        else:
            found[name] = distance(x, y, scales[name])
    if made:
        wide = {name for (name, _), x in zip(got.items(), expected) if _is_finer(x, scales[name])}
        found = {k: v if k in wide else dataclasses.replace(v, signal_scales=math.inf) for k, v in found.items()}
    far = {name: output for name, output in found.items() if output.is_far}
    lost = not made and any(
        lost_channels(x, y, scales[name], axis)
        for (name, y), x in zip(got.items(), expected)
        for axis in range(1, x.ndim)
    )
    unequal = {name: output for name, output in integers.items() if output.is_far}
    is_far = bool(far or unequal)
    cause = (_loss(conversion, lite) if lost else "") or (_cause(conversion, lite, samples, far) if is_far else "")
    if not cause:
        return lite
    on = "samples made up within its trained ranges" if made else "the calibration data"
    outputs = "".join(f"output '{name}': {output}. " for name, output in [*far.items(), *unequal.items()])
    text = f"{FAR} '{conversion.name}' on {on}: {outputs}{cause}"
    if conversion.config.strict:
        raise ConversionError(f"strict=True, but: {text}")
    return with_notes(lite, text)


def _is_finer(expected: np.ndarray, scale: float | None) -> bool:
    """Whether the values of a trained model are closer together than its file can tell apart."""
    steps = np.diff(np.unique(np.append(expected, 0.0)))
    return scale is not None and steps.size > 0 and float(steps.min()) < scale / 2


def _loss(conversion: Conversion, lite: LiteRTModel) -> str:
    """What more samples show of channels that share a scale: a few may be small by chance."""
    most = conversion.spec.batch or _MORE_SAMPLES
    samples = {name: array[:most] for name, array in (conversion.samples or {}).items()}

    def retry(paths: tuple[str, ...]) -> keras.Model:
        config = dataclasses.replace(conversion.config, keep_float=(*conversion.config.keep_float, *paths))
        again = dataclasses.replace(conversion, model=conversion.original, config=config, samples=samples)
        return with_ranges(again)[0]

    got, scales = lite.predict(samples), pack(lite.output_structure, lite.output_scales)
    return shared_scale_loss(conversion.original, conversion.spec, samples, got, scales, retry)


def _cause(
    conversion: Conversion, lite: LiteRTModel, samples: Arrays, far: Mapping[str, OutputDistance]
) -> str:
    errors = compare_layers(conversion.original, lite, samples)
    wide = [output for output in far.values() if output.signal_scales < _LEAST_SCALES]
    if wide and any((lite.output_scales[name] or math.inf) < _LEAST_RANGE / 255 for name in far):
        return (
            "Its values are too small for TensorFlow's converter, which makes no 8-bit range narrower than 1e-6: train "
            "the model on larger targets, and divide after the file, or try quantization='int16x8'."
        )
    if any(output.level_scales > _MUCH_OF_RANGE for output in wide):
        return (
            "Its values lie close together and far from zero, which the range of integers holds too: train the model "
            "on targets less their mean, and add that after the file."
        )
    placed = lite.quantization == "int8" and is_container(conversion.original) and not is_quantized(conversion.original)
    if wide and placed and conversion.config.calibration == "minmax":
        return "An outlier in the calibration data makes its range too wide: try calibration='percentile'."
    return errors.cause


def with_notes(lite: LiteRTModel, *notes: str) -> LiteRTModel:
    """The artifact with more notes in its metadata."""
    file = parse(lite.content, "converted model")
    set_metadata(file, {**lite.metadata, "notes": [*lite.notes, *notes]})
    return LiteRTModel(write(file))


def cannot_run(conversion: Conversion, lite: LiteRTModel, error: ConversionError) -> ConversionError:
    """The error for a file with an operator that the interpreter lacks: known now, not on the device."""
    row = lite.audit.operator_of(str(error))
    if row is None:
        return error
    return ConversionError(
        f"model '{conversion.name}' converts with quantization='{conversion.config.quantization}' to a file that "
        f"cannot run: layers {list(row.layers) or row.tensor!r} need {row.operator} of {', '.join(row.inputs)}, "
        f"which LiteRT does not compute. In its words: {error}"
    )
