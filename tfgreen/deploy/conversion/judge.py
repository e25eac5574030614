"""Judge a new file: run it on a few samples, and say so where it is far from the model.

A file may convert without a word and compute something else: a range that clips, an operator that the converter gets
wrong. Whoever converts shall hear of it at once, with the layer and a remedy. The samples are of the calibration data,
or made up within the ranges of a trained model, which say nothing of a range that is too wide; or at random, where the
model returns the same numbers for them twice.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping

import keras
import numpy as np

from tfgreen.deploy.conversion.made_samples import made_samples
from tfgreen.deploy.conversion.post_training import with_ranges
from tfgreen.deploy.conversion.record import Conversion
from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.inspection.output_distance import IntegerDistance, OutputDistance, distance, integer_distance
from tfgreen.deploy.inspection.output_errors import DEFAULT_LIMITS
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.flatbuffer import parse, set_metadata
from tfgreen.deploy.tflite.writing import write
from tfgreen.errors import ConversionError, TfgreenError, listed
from tfgreen.model.call_spec import keeping_state, outputs_of
from tfgreen.model.internals import is_container
from tfgreen.model.samples import random_samples
from tfgreen.quantization.feature_scales import lost_channels
from tfgreen.quantization.histogram import Calibration
from tfgreen.structure import match, pack
from tfgreen.techniques.quantize import is_quantized
from tfgreen.techniques.shared_scales import Retry, input_scale_loss, layer_loss, shared_scale_loss

FAR = "The file is far from model"  # how the note begins
_UNSEEN = "The file was not compared with the model, because its ranges do not say what goes into"
_DATA = "the calibration data"
_UNSEEN_FIX = "(fixed sizes, and trained ranges or tables to look up, would): look with tg.verify(model, lite, x)."
_SAMPLES, _MORE_SAMPLES = 8, 128
_LEAST_EQUAL_MADE = 0.5  # integers of made-up samples, between classes as often as not; that may be chance
_FLAT = (
    "Its probabilities, or what tells them apart, are hardly above 1/256, the step of an 8-bit softmax: let the file "
    "return what goes into the softmax, keep that layer in float32 (keep_float), or train the model until it is surer."
)
_OUTLIER, _FEW_OUTLIERS = 4.0, 0.05  # times the median sample; of the samples
_LEAST_RANGE = 3e-6  # below which the converter widens ranges
_MUCH_OF_RANGE = 64.0  # scales of 255, which no outlier has made too wide


def judge(conversion: Conversion, lite: LiteRTModel) -> LiteRTModel:
    """Return the artifact, with a note if it is far from the model passed in, which stays as it is.

    Raises:
        ConversionError: LiteRT's interpreter refuses the file; ``strict``, and the file is far from the model.
    """
    with keeping_state(conversion.original):
        return _judged(conversion, lite)


def _judged(conversion: Conversion, lite: LiteRTModel) -> LiteRTModel:
    if any(operator.startswith("Flex") for operator in lite.operators):
        return lite
    # Integers are equal or not, which few samples say little of.
    count = _MORE_SAMPLES if any(info.dtype[0] in "iub" for info in lite.outputs if info.scale is None) else _SAMPLES
    samples = _spread(conversion.samples or {}, count)
    made, trained = not samples, not samples and is_quantized(conversion.original)
    if trained:
        samples = made_samples(conversion, count)
    elif made and not conversion.has_open_sizes:
        samples = random_samples(conversion.spec, 2)  # a batch of one hides what broadcasting does
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
        return with_notes(lite, f"{_UNSEEN} {unknown} {_UNSEEN_FIX}") if trained else lite
    for (name, y), x in zip(got.items(), expected):
        if x.size != y.size:
            raise conversion.rows_are_no_samples(name, x.shape, y.shape)
    scales = lite.output_scales
    pairs = zip(got.items(), expected)
    found: dict[str, OutputDistance] = {}
    integers: dict[str, IntegerDistance] = {}
    least = _LEAST_EQUAL_MADE if made else DEFAULT_LIMITS[lite.quantization].agreement
    for (name, y), x in pairs:
        if made and not trained and not np.isfinite(x).all():  # numbers at random need not suit the model
            continue
        if x.dtype.kind in "iub":
            integers[name] = integer_distance(x, y, least)
        else:
            found[name] = distance(x, y, scales[name])
    if made:
        wide = {name for (name, _), x in zip(got.items(), expected) if _is_finer(x, scales[name])}
        found = {
            k: dataclasses.replace(v, signal_scales=v.signal_scales if k in wide else math.inf, jumps=0.0)
            for k, v in found.items()
        }  # of numbers made up, many may tie
    far = {name: output for name, output in found.items() if output.is_far}
    lost = not made and any(
        lost_channels(x, y, scales[name], axis)
        for (name, y), x in zip(got.items(), expected)
        for axis in range(1, x.ndim)
    )
    unequal = {name: output for name, output in integers.items() if output.is_far}
    is_far = bool(far or unequal) and (not made or trained or _repeats(conversion, samples, expected))
    cause = (_loss(conversion, lite) if lost else "") or (_cause(conversion, lite, samples, far) if is_far else "")
    if not cause:
        unlike = [] if made else [item for item in integers.items() if item[1].equal < 1]
        notes = [f"Output '{name}': {output}; near ties fall the other way." for name, output in unlike]
        notes += [] if made else _beyond_limits(lite, found)
        return with_notes(lite, *notes) if notes else lite
    on = "samples made up within its trained ranges" if trained else "samples at random" if made else _DATA
    outputs = "".join(f"output '{name}': {output}. " for name, output in [*far.items(), *unequal.items()])
    text = f"{FAR} '{conversion.name}' on {on}: {outputs}{cause}"
    if conversion.config.strict:
        raise ConversionError(f"strict=True, but: {text}")
    return with_notes(lite, text)


def _spread(samples: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """So many samples from all over the data, of which those in a row may be of one kind."""
    rows = np.linspace(0, min(map(len, samples.values()), default=1) - 1, count).astype(int)
    return {name: array[np.unique(rows)] for name, array in samples.items()}


def _beyond_limits(lite: LiteRTModel, found: Mapping[str, OutputDistance]) -> list[str]:
    """Notes on 8-bit outputs that are close to the model's, and yet not as close as :func:`tfgreen.verify` asks for."""
    limit = DEFAULT_LIMITS["int8"].mean_scales if lite.quantization == "int8" else math.inf
    return [
        f"Output '{name}': {output}, which is close, but tg.verify asks for {limit:g} scales at most."
        for name, output in found.items()
        if output.scales > limit
    ]


def _repeats(conversion: Conversion, samples: Mapping[str, np.ndarray], expected: list[np.ndarray]) -> bool:
    """Whether the model returns the same again: it may draw numbers."""
    again = outputs_of(conversion.original, conversion.spec, samples, _SAMPLES)
    return all(np.allclose(x, y, equal_nan=True) for x, y in zip(expected, again))


def _is_finer(expected: np.ndarray, scale: float | None) -> bool:
    """Whether the values of a trained model are closer together than its file can tell apart."""
    steps = np.diff(np.unique(np.append(expected, 0.0)))
    return scale is not None and steps.size > 0 and float(steps.min()) < scale / 2


def _loss(conversion: Conversion, lite: LiteRTModel) -> str:
    """What more samples show of channels that share a scale: a few may be small by chance."""
    samples = _more_samples(conversion)
    got, scales = lite.predict(samples), pack(lite.output_structure, lite.output_scales)
    return shared_scale_loss(conversion.original, conversion.spec, samples, got, scales, _keeping(conversion, samples))


def _more_samples(conversion: Conversion) -> dict[str, np.ndarray]:
    most = conversion.spec.batch or _MORE_SAMPLES
    return _spread(conversion.samples or {}, most)


def _cause(
    conversion: Conversion,
    lite: LiteRTModel,
    samples: Mapping[str, np.ndarray],
    far: Mapping[str, OutputDistance],
) -> str:
    errors = compare_layers(conversion.original, lite, samples)
    wide = [output for output in far.values() if output.is_wide]
    if wide and any((lite.output_scales[name] or math.inf) < _LEAST_RANGE / 255 for name in far):
        return (
            "Its values are too small for TensorFlow's converter, which makes no 8-bit range narrower than 1e-6: train "
            "the model on larger targets, and divide after the file, or try quantization='int16x8'."
        )
    flat = [lite.output_scales[name] == 1 / 256 for name, output in far.items() if output.is_wide]
    if any(flat):
        return _FLAT
    if any(output.level_scales > _MUCH_OF_RANGE for output in wide):
        return (
            "Its values lie close together and far from zero, which the range of integers holds too: train the model "
            "on targets less their mean, and add that after the file."
        )
    placed = lite.quantization == "int8" and is_container(conversion.original) and not is_quantized(conversion.original)
    found = _outlier(conversion) if wide and placed else ""
    return found or (_lost_features(conversion) or _float_layers(conversion) if placed else "") or errors.cause


def _lost_features(conversion: Conversion) -> str:
    """What rounding its inputs takes away."""
    samples = _more_samples(conversion)
    retry = _keeping(conversion, samples)
    try:
        return input_scale_loss(conversion.original, retry(()), conversion.spec, samples, retry)
    except TfgreenError:  # there are no ranges to place
        return ""


def _float_layers(conversion: Conversion) -> str:
    """The layers which to keep in float helps, as a copy of the model shows."""
    samples = _more_samples(conversion)
    retry = _keeping(conversion, samples)
    try:
        _, kept = layer_loss(conversion.original, retry(()), conversion.spec, samples, retry)
    except TfgreenError:  # there are no ranges to place
        return ""
    return f"Let what loses most compute in float32: keep_float={kept}." if kept else ""


def _keeping(conversion: Conversion, samples: Mapping[str, np.ndarray]) -> Retry:
    """The model with ranges, given more layers to keep in float."""

    def retry(paths: tuple[str, ...]) -> keras.Model:
        config = dataclasses.replace(conversion.config, keep_float=(*conversion.config.keep_float, *paths))
        again = dataclasses.replace(conversion, model=conversion.original, config=config, samples=samples)
        return with_ranges(again)[0]

    return retry


def _outlier(conversion: Conversion) -> str:
    """What of the calibration data makes ranges too wide, with the remedy that a copy of the model shows to help."""
    model, spec, whole = conversion.original, conversion.spec, conversion.samples or {}
    floats = [_most(x) for name, x in whole.items() if x.dtype.kind == "f"]
    size = np.max([most / (np.median(most) or 1.0) for most in floats], axis=0) if floats else np.zeros(0)
    outliers = np.flatnonzero(size > _OUTLIER)
    if len(outliers) > _FEW_OUTLIERS * len(size):
        outliers = outliers[:0]
    rest = {name: np.delete(x, outliers, axis=0) for name, x in whole.items()}
    few = {name: x[:_SAMPLES] for name, x in rest.items()}
    expected = outputs_of(model, spec, few, _SAMPLES)

    def helps(calibration: Calibration, samples: Mapping[str, np.ndarray]) -> bool:
        config = dataclasses.replace(conversion.config, calibration=calibration)
        try:
            again, _ = with_ranges(dataclasses.replace(conversion, model=model, config=config, samples=samples))
        except TfgreenError:  # there are no ranges to place
            return False
        got = outputs_of(again, spec, few, _SAMPLES)
        return not any(distance(x, y, None).is_far for x, y in zip(expected, got) if x.dtype.kind == "f")

    for calibration in typing.get_args(Calibration):
        if calibration != conversion.config.calibration and helps(calibration, whole):
            return f"An outlier in the calibration data makes its range too wide: try calibration='{calibration}'."
    if len(outliers) and helps(conversion.config.calibration, rest):
        return (
            f"Calibration samples {listed(outliers.tolist())} hold numbers up to {size.max():.0f} times as large as "
            "those of the others, and make its range too wide: leave them out."
        )
    return ""


def _most(x: np.ndarray) -> np.ndarray:
    """The largest magnitude in each sample."""
    return np.abs(x.astype(np.float64)).reshape(len(x), -1).max(axis=1, initial=0.0)


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
    fix = ""
    if row.operator == "DIV" and row.layers and not is_quantized(conversion.original):
        keeps = is_container(conversion.original) and conversion.config.quantization == "int8"
        how = f"keep_float={list(row.layers)}" if keeps else "tg.quantize(model, calibration_data=x) before"
        fix = f" where a divisor rounds to 0: keep them in float32, by {how}"
    return ConversionError(
        f"model '{conversion.name}' converts with quantization='{conversion.config.quantization}' to a file that "
        f"cannot run: layers {list(row.layers) or row.tensor!r} need {row.operator} of {', '.join(row.inputs)}, "
        f"which LiteRT does not compute{fix}. In its words: {error}"
    )
