"""Verify: does the file still compute what the Keras model computes?"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import keras
import numpy as np

from tfgreen.checks import check_instance, check_number
from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.inspection.layer_errors import LayerErrors
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.errors import invalid_value
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.paths import check_built_model
from tfgreen.structure import match, name_leaves
from tfgreen.tables import TableResult
from tfgreen.typing import Arrays, PlainDict

_BATCH = 32


@dataclasses.dataclass(frozen=True)
class VerifyLimits:
    """What :func:`verify` holds a file to: errors in scales of the output, ``agreement`` as a share of the samples."""

    mean_scales: float
    max_scales: float
    agreement: float

    def __post_init__(self) -> None:
        for name in ("mean_scales", "max_scales"):
            if getattr(self, name) != math.inf:
                check_number(name, getattr(self, name), minimum=0)
        check_number("agreement", self.agreement, minimum=0, maximum=1)


# A float32 file repeats the same arithmetic, so that anything beyond rounding is a fault. Rounded weights (float16) and
# 8-bit arithmetic shift outputs by a scale or two on average; single samples at a decision boundary may move further.
_ROUNDED = VerifyLimits(mean_scales=2.5, max_scales=math.inf, agreement=0.9)
DEFAULT_LIMITS = {
    "float32": VerifyLimits(mean_scales=0.02, max_scales=0.5, agreement=0.99),
    "float16": VerifyLimits(mean_scales=0.5, max_scales=math.inf, agreement=0.95),
    **dict.fromkeys(("dynamic", "int8", "int16x8"), _ROUNDED),
}


@dataclasses.dataclass(frozen=True)
class OutputComparison:
    """How one output differs between the Keras model and the file.

    Attributes:
        name: The output.
        max_error, mean_error: Largest and mean absolute difference, in units of the output; NaN if one is not finite.
        scale: The output's quantization scale, 256 times that for int16 (whose weights have 8 bits all the same), or
            for an output that is not quantized 1/255 of the range that the Keras output spans on these samples.
        max_scales, mean_scales: The same errors over ``scale``.
        agreement: The share of samples with the same top class; None unless the shape is ``(samples, classes)``.
    """

    name: str
    max_error: float
    mean_error: float
    scale: float
    max_scales: float
    mean_scales: float
    agreement: float | None

    def within(self, limits: VerifyLimits) -> bool:
        """Whether every figure is within the limits; one that is NaN never is."""
        agrees = self.agreement is None or self.agreement >= limits.agreement
        return self.mean_scales <= limits.mean_scales and self.max_scales <= limits.max_scales and agrees


@dataclasses.dataclass(frozen=True, repr=False)
class VerifyResult(TableResult):
    """The comparison of every output, with the limits it was held to; prints as a table.

    Attributes:
        outputs: An :class:`OutputComparison` per output.
        samples: How many samples were compared.
        quantization: That of the file.
        limits: What was allowed.
        layers: What :func:`tfgreen.compare_layers` finds where an output exceeds the limits; None otherwise, or if the
            file does not know its layers.
    """

    outputs: tuple[OutputComparison, ...]
    samples: int
    quantization: str
    limits: VerifyLimits
    layers: LayerErrors | None = None

    _headings: ClassVar[tuple[str, ...]] = ("output", "max error", "mean error", "max scales", "mean scales", "top-1")

    @property
    def passed(self) -> bool:
        """Whether every output is finite and within the limits."""
        return all(output.within(self.limits) for output in self.outputs)

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, and ``"passed"``; a figure that is not finite is None."""
        return {"passed": self.passed, **super().to_dict()}

    def _headline(self) -> str:
        return f"{'passed' if self.passed else 'FAILED'}, {self.quantization}, {self.samples} samples"

    def _rows(self) -> list[tuple[str, ...]]:
        tops = ["" if o.agreement is None else f"{o.agreement:.2%}" for o in self.outputs]
        return [
            (o.name, f"{o.max_error:.3g}", f"{o.mean_error:.3g}", f"{o.max_scales:.2f}", f"{o.mean_scales:.3f}", top)
            for o, top in zip(self.outputs, tops)
        ]

    def _remarks(self) -> list[str]:
        limits = f"mean <= {self.limits.mean_scales:g} scales, top-1 agreement >= {self.limits.agreement:.0%}"
        if math.isfinite(self.limits.max_scales):
            limits = f"max <= {self.limits.max_scales:g} scales, {limits}"
        verdict = "passed" if self.passed else "FAILED"
        return [f"{verdict}: {self.quantization}, {self.samples} samples ({limits})"]

    def __str__(self) -> str:
        return f"{super().__str__()}\n\n{self.layers}" if self.layers else super().__str__()

    def _repr_html_(self) -> str:
        return super()._repr_html_() + (self.layers._repr_html_() if self.layers else "")


def verify(
    model: keras.Model,
    lite: LiteRTModel,
    x: Arrays,
    *,
    mean_scales: float | None = None,
    max_scales: float | None = None,
    agreement: float | None = None,
) -> VerifyResult:
    """Run both models on the same samples and compare every output; where they differ too much, say which layer it is.

    Args:
        model: The Keras model, run in inference mode.
        lite: The file converted from it.
        x: Samples in the structure of the model's inputs, at least one. Use data that was not used for calibration.
        mean_scales: Largest mean error allowed, in scales of the output (see :class:`OutputComparison`). By default
            0.02 for a float32 file, 0.5 for float16, 2.5 for dynamic, int8 and int16x8.
        max_scales: Largest single error allowed, in scales. By default 0.5 for a float32 file, none for others.
        agreement: Smallest share of samples on which the top classes must agree. By default 0.99 for a float32 file,
            0.95 for float16, 0.9 for dynamic and int8.

    Raises:
        TypeError: ``lite`` is no ``LiteRTModel``, or ``model`` no ``keras.Model``.
        ValueError: ``x`` does not fit the model, or the two models have different outputs.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> result = tg.verify(model, tg.convert(model), np.ones((4, 3), "float32"))
        >>> result.passed, result.limits.mean_scales, [(output.name, output.agreement) for output in result.outputs]
        (True, 0.02, [('out', 1.0)])
    """
    check_built_model(model)
    check_instance("lite", lite, LiteRTModel, "a LiteRTModel")
    got = match(lite.output_structure, lite.predict(x), "output")
    expected = _keras_outputs(model, x)
    shapes = {name: array.shape for name, array in got.items()}
    if [array.shape for array in expected] != [*shapes.values()]:
        raise invalid_value(
            "lite",
            expected=f"the outputs of model '{model.name}', {[array.shape for array in expected]}",
            received=shapes,
            fix="Verify a file against the model that it was converted from.",
        )
    options = {"mean_scales": mean_scales, "max_scales": max_scales, "agreement": agreement}
    given = {name: value for name, value in options.items() if value is not None}
    limits = dataclasses.replace(DEFAULT_LIMITS[lite.quantization], **given)
    fine = 256 if lite.quantization == "int16x8" else 1
    scales = {name: None if scale is None else scale * fine for name, scale in lite.output_scales.items()}
    outputs = tuple(compare(name, array, got[name], scales[name]) for name, array in zip(got, expected))
    result = VerifyResult(outputs, len(expected[0]), lite.quantization, limits)
    if result.passed or "layers" not in lite.metadata:
        return result
    return dataclasses.replace(result, layers=compare_layers(model, lite, x))


def compare(name: str, expected: np.ndarray, got: np.ndarray, scale: float | None = None) -> OutputComparison:
    """Compare what the model and the file returned for an output; without a scale, 1/255 of the range is one."""
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    if not (np.isfinite(expected).all() and np.isfinite(got).all()):
        return OutputComparison(name, math.nan, math.nan, scale or math.nan, math.nan, math.nan, None)
    if scale is None:
        span = float(np.ptp(expected))
        # A constant output spans nothing: then its own size gives the measure.
        scale = (span or float(np.abs(expected).max()) or 1.0) / 255
    error = np.abs(expected - got)
    largest, mean = float(error.max()), float(error.mean())
    classes = expected.ndim == 2 and expected.shape[1] > 1
    top = float((expected.argmax(axis=1) == got.argmax(axis=1)).mean()) if classes else None
    return OutputComparison(name, largest, mean, scale, largest / scale, mean / scale, top)


def _keras_outputs(model: keras.Model, x: Arrays) -> list[np.ndarray]:
    """The outputs of the Keras model in reading order, computed in batches without touching its compiled state."""
    spec = read_call_spec(model)
    parts = {name: np.asarray(value) for name, value in match(spec.structure, x, "x").items()}
    batches = []
    for start in range(0, len(next(iter(parts.values()))), _BATCH):
        result = call_model(model, spec, {name: array[start : start + _BATCH] for name, array in parts.items()})
        batches.append([np.asarray(leaf) for leaf in name_leaves(result, lambda _, index: str(index))[1]])
    return [np.concatenate(arrays) for arrays in zip(*batches)]
