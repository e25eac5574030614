"""Judge a new file: run it on a few calibration samples, and say so where it is far from the model.

A file may convert without a word and compute something else: a range that clips, an operator that the converter gets
wrong. Whoever converts shall hear of it at once, with the layer and a remedy.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

import keras
import numpy as np

from tfgreen.deploy.conversion.record import Conversion
from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.flatbuffer import parse, set_metadata, write
from tfgreen.errors import ConversionError
from tfgreen.model.call_spec import call_model
from tfgreen.structure import match, name_leaves

FAR = "The file is far from model"  # how the note begins
_SAMPLES = 8
_FAR_SCALES, _FAR_DB = 4.0, 10.0  # both are exceeded by a file that no score survives


@dataclasses.dataclass(frozen=True)
class OutputDistance:
    """How far an output of a file is from the model's: the mean error in scales, and the ratio of signal to noise."""

    mean_scales: float
    sqnr_db: float
    constant: bool

    @property
    def is_far(self) -> bool:
        """Whether the output is of no use: the noise is a tenth of the signal's power, and no matter of rounding."""
        return self.constant or math.isnan(self.sqnr_db) or (
            self.mean_scales > _FAR_SCALES and self.sqnr_db < _FAR_DB
        )

    def __str__(self) -> str:
        if self.constant:
            return "it is constant"
        return f"it is {self.mean_scales:.1f} scales off on average, signal over noise {self.sqnr_db:.1f} dB"


def distance(expected: np.ndarray, got: np.ndarray, scale: float | None) -> OutputDistance:
    """Compare an output of the model with that of its file; without a scale, 1/255 of the range is one.

    Example:
        >>> expected = np.linspace(-1.0, 1.0, 9)
        >>> str(distance(expected, np.clip(expected, -0.5, 0.5), 0.01))
        'it is 13.9 scales off on average, signal over noise 9.5 dB'
    """
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    scale = scale or float(np.ptp(expected)) / 255 or 1.0
    error = expected - got
    signal, noise = float(expected.var()) or float((expected**2).mean()), float((error**2).mean())
    sqnr = math.inf if noise == 0 else 10 * math.log10(signal / noise) if signal > 0 else -math.inf
    constant = expected.size > 1 and float(np.ptp(got)) == 0 and float(expected.std()) > _FAR_SCALES * scale
    return OutputDistance(float(np.abs(error).mean()) / scale, sqnr if np.isfinite(error).all() else math.nan, constant)


def judge(model: keras.Model, conversion: Conversion, lite: LiteRTModel) -> LiteRTModel:
    """Return the artifact, with a note if it is far from ``model``, the model passed in.

    Raises:
        ConversionError: LiteRT's interpreter refuses the file; ``strict``, and the file is far from the model.
    """
    if any(operator.startswith("Flex") for operator in lite.operators):
        return lite
    samples = None if conversion.samples is None else {k: v[:_SAMPLES] for k, v in conversion.samples.items()}
    try:
        if samples is None:
            lite.new_interpreter()
            return lite
        got = match(lite.output_structure, lite.predict(samples), "output")
    except ConversionError as error:
        raise _cannot_run(conversion, lite, error) from error
    result = call_model(model, conversion.spec, samples)
    expected = [np.asarray(leaf) for leaf in name_leaves(result, lambda _, index: str(index))[1]]
    scales = lite.output_scales
    pairs = zip(got.items(), expected)
    far = [
        f"output '{name}': {found}"
        for (name, array), true in pairs
        if true.dtype.kind == "f" and (found := distance(true, array, scales[name])).is_far
    ]
    return _announced(model, conversion, lite, far) if far else lite


def _announced(model: keras.Model, conversion: Conversion, lite: LiteRTModel, far: Sequence[str]) -> LiteRTModel:
    cause = compare_layers(model, lite, conversion.packed_samples(_SAMPLES)).cause
    text = f"{FAR} '{conversion.name}' on the calibration data: {'; '.join(far)}. {cause}"
    if conversion.config.strict:
        raise ConversionError(f"strict=True, but: {text}")
    file = parse(lite.content, "converted model")
    set_metadata(file, {**lite.metadata, "notes": [*lite.notes, text]})
    return LiteRTModel(write(file))


def _cannot_run(conversion: Conversion, lite: LiteRTModel, error: ConversionError) -> ConversionError:
    """The error for a file with an operator that the interpreter lacks: known now, not on the device."""
    found = re.search(r"Node number (\d+)", str(error))
    rows = lite.audit.operators
    if found is None or int(found[1]) >= len(rows):
        return error
    row = rows[int(found[1])]
    return ConversionError(
        f"model '{conversion.name}' converts with quantization='{conversion.config.quantization}' to a file that "
        f"cannot run: layers {list(row.layers) or row.tensor!r} need {row.operator} of {', '.join(row.inputs)}, "
        f"which LiteRT does not compute. In its words: {error}"
    )
