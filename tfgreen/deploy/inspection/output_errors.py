"""How far an output of a file is from that of its Keras model, judged by what the output is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from tfgreen.checks import check_number
from tfgreen.deploy.inspection.output_distance import scale_of
from tfgreen.quantization.feature_scales import lost_channels
from tfgreen.tables import RowResult
from tfgreen.techniques.shared_scales import axis_named

_ENOUGH = 32  # values of a channel from which on its signal-to-noise ratio says something
_FIXED_SCALES = (1 / 256, 1 / 128)  # of softmax, sigmoid and tanh, whatever they return
_SEEN = 0.02  # scales below which the largest value of a channel counts as none

Task = Literal["classes", "integers", "values"]


@dataclasses.dataclass(frozen=True)
class VerifyLimits(RowResult):
    """What :func:`verify` holds a file to: errors in scales of the output, ``agreement`` as a share of the positions of
    classes and integers, ``sqnr_db`` of other outputs in decibels."""

    mean_scales: float
    max_scales: float
    agreement: float
    sqnr_db: float = -math.inf

    def __post_init__(self) -> None:
        for name in ("mean_scales", "max_scales"):
            value = getattr(self, name)
            if not (isinstance(value, float) and value == math.inf):
                check_number(name, value, minimum=0)
        check_number("agreement", self.agreement, minimum=0, maximum=1)
        if not (isinstance(self.sqnr_db, float) and self.sqnr_db == -math.inf):
            check_number("sqnr_db", self.sqnr_db)


# A float32 file repeats the same arithmetic, so that anything beyond rounding is a fault. Rounded weights (float16) and
# 8-bit arithmetic, which is that of bfloat16 too, shift outputs by a scale or two on average; single samples at a
# decision boundary may move further.
_ROUNDED = VerifyLimits(mean_scales=2.5, max_scales=math.inf, agreement=0.9, sqnr_db=10)
DEFAULT_LIMITS = {
    "float32": VerifyLimits(mean_scales=0.02, max_scales=0.5, agreement=0.99, sqnr_db=20),
    "float16": VerifyLimits(mean_scales=0.5, max_scales=math.inf, agreement=0.95, sqnr_db=20),
    **dict.fromkeys(("dynamic", "int8", "int16x8", "bfloat16"), _ROUNDED),
}


@dataclasses.dataclass(frozen=True)
class OutputComparison(RowResult):
    """How one output differs between the Keras model and the file.

    Attributes:
        name: The output.
        max_error, mean_error: Largest and mean absolute difference, in units of the output; NaN if one of the two is
            not finite where the other is, or no number is.
        scale: The output's quantization scale, 256 times that for int16 (whose weights have 8 bits all the same), or
            for an output that is not quantized 1/255 of the range that the Keras output spans on these samples.
        max_scales, mean_scales: The same errors over ``scale``.
        agreement: The share of positions with the same top class (last axis), or of equal integers; None for values.
        task: ``"classes"``: the scores of a softmax, or of a model compiled with a categorical crossentropy or
            converted with as many labels. ``"integers"``: what is no float. ``"values"``: all else.
        sqnr_db: Power of the output over that of the error in decibels, of the channel where it is lowest
            if there are 32 values of each, infinite where there is no error.
        channel: The index of that channel; None if it is of the whole.
        equal_nan: How many values are NaN, or infinite, in both, and left out of the other figures.
        lost: The channels of values that drown in noise because they share the scale with much larger ones.
        axis: The axis of the channels.
    """

    name: str
    max_error: float
    mean_error: float
    scale: float
    max_scales: float
    mean_scales: float
    agreement: float | None
    task: Task = "values"
    sqnr_db: float = math.inf
    channel: int | None = None
    equal_nan: int = 0
    lost: tuple[int, ...] = ()
    axis: int = -1

    @property
    def remarks(self) -> list[str]:
        """What the figures do not say, in sentences."""
        found = []
        if self.equal_nan:
            found.append(f"{self.equal_nan} values of output '{self.name}' are NaN or infinite in both.")
        if self.lost:
            found.append(
                f"Channels {list(self.lost)} ({axis_named(self.axis)}) of output '{self.name}' are lost in noise: they "
                f"share a scale ({self.scale:.3g}) with larger ones. Return them as an output of their own, or convert "
                "with keep_float of the layers that join them."
            )
        return found

    def within(self, limits: VerifyLimits) -> bool:
        """Whether every figure that the task is judged by is within the limits; one that is NaN never is."""
        agrees = self.agreement is None or self.agreement >= limits.agreement
        if self.task == "integers":
            return agrees and not math.isnan(self.max_error)
        close = self.mean_scales <= limits.mean_scales and self.max_scales <= limits.max_scales
        return close and agrees and (self.task == "classes" or self.sqnr_db >= limits.sqnr_db)


def compare(
    name: str,
    expected: np.ndarray,
    got: np.ndarray,
    scale: float | None = None,
    classes: bool = False,
    axes: Sequence[int] = (-1,),
) -> OutputComparison:
    """Compare what the model and the file returned for an output, of which channels may lie along each of some axes;
    without a scale, 1/255 of the range is one."""
    task: Task = "integers" if expected.dtype.kind in "iub" else "classes" if classes else "values"
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    odd = ~(np.isfinite(expected) & np.isfinite(got))
    if (odd & ~same).any() or (odd.size and odd.all()):
        nan, count = math.nan, int((odd & same).sum())
        return OutputComparison(name, nan, nan, scale or nan, nan, nan, None, task, nan, None, count)
    expected, got = np.where(odd, 0.0, expected), np.where(odd, 0.0, got)
    scale = scale_of(expected) if scale is None else scale
    error = np.abs(expected - got)
    largest, mean = float(error.max()), float(error.mean())
    top = None if task == "values" else float(same.mean())
    if task == "classes":
        top = float((expected.argmax(axis=-1) == got.argmax(axis=-1)).mean())
    along = {axis: _least_sqnr(expected, error, scale, axis) for axis in axes}
    axis = min(along, key=lambda axis: along[axis][0])
    ratio, channel = along[axis]
    lost = tuple(lost_channels(expected, got, scale, axis)) if task == "values" else ()
    figures = largest / scale, mean / scale, top, task, ratio, channel, int(odd.sum()), lost, axis
    return OutputComparison(name, largest, mean, scale, *figures)


def _least_sqnr(expected: np.ndarray, error: np.ndarray, scale: float, axis: int) -> tuple[float, int | None]:
    """See ``sqnr_db`` and ``channel`` of :class:`OutputComparison`."""
    expected, error = (np.moveaxis(x, axis, -1) for x in (expected, error))
    channels = expected.shape[-1] if expected.ndim > 1 else 1
    by_channel = channels > 1 and expected.size >= _ENOUGH * channels
    rows = [x.reshape(-1, channels if by_channel else 1) for x in (expected, error)]
    power, noise = ((x**2).sum(axis=0) for x in rows)
    # Rounding keeps nothing of a channel far below a scale: to the file, and to its user, it is a zero.
    seen = (noise > 0) & (np.abs(rows[0]).max(axis=0) > _SEEN * scale)
    if not seen.any():
        # An output that is all below a scale is no rounding: the scale, unless the operator fixes it, does not fit.
        fits = scale in _FIXED_SCALES or not noise.any() or not power.any() or np.abs(expected).max() > _SEEN * scale
        return math.inf if fits else 10 * math.log10(float(power.sum() / noise.sum())), None
    ratios = np.where(seen, power, np.inf) / np.where(seen, noise, 1.0)
    worst = int(ratios.argmin())
    return 10 * math.log10(float(ratios[worst])), worst if by_channel else None
