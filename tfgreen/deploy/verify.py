"""Verify: does the artifact still compute what the Keras model computes?"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.inspection.layer_errors import LayerErrors
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.structure import leaf_names, match, name_leaves

if TYPE_CHECKING:
    import keras

_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a comparison must keep to; errors are in output steps, ``agreement`` is a share of the samples."""

    mean_steps: float
    max_steps: float
    agreement: float


# A float32 file repeats the same arithmetic, so that anything beyond rounding is a fault. Rounded weights (float16) and
# 8-bit arithmetic shift outputs by a step or two on average; single samples at a decision boundary may move further.
DEFAULT_LIMITS = {
    "float32": Limits(mean_steps=0.02, max_steps=0.5, agreement=0.99),
    "float16": Limits(mean_steps=0.5, max_steps=math.inf, agreement=0.95),
    "dynamic": Limits(mean_steps=2.5, max_steps=math.inf, agreement=0.9),
    "int8": Limits(mean_steps=2.5, max_steps=math.inf, agreement=0.9),
    "int16x8": Limits(mean_steps=2.5, max_steps=math.inf, agreement=0.9),
}


@dataclasses.dataclass(frozen=True)
class OutputComparison:
    """How one output differs between the Keras model and the artifact.

    Attributes:
        name: The output.
        max_error: Largest absolute difference, in units of the output. NaN where an output is not finite.
        mean_error: Mean absolute difference, in the same units.
        step: What one step is in these units: the output's quantization scale, 256 times that for int16 (whose weights
            have 8 bits all the same), or for an output that is not quantized 1/255 of the range that the Keras output
            spans on these samples.
        max_steps: ``max_error / step``.
        mean_steps: ``mean_error / step``.
        agreement: The share of samples with the same top class; None unless the shape is ``(samples, classes)``.
    """

    name: str
    max_error: float
    mean_error: float
    step: float
    max_steps: float
    mean_steps: float
    agreement: float | None

    def within(self, limits: Limits) -> bool:
        """Whether every figure keeps to the limits; one that is NaN never does."""
        agrees = self.agreement is None or self.agreement >= limits.agreement
        return self.mean_steps <= limits.mean_steps and self.max_steps <= limits.max_steps and agrees


@dataclasses.dataclass(frozen=True)
class VerifyResult:
    """The comparison of every output, with the limits it was held to. ``print`` it for a table.

    Attributes:
        outputs: One entry per output.
        samples: How many samples were compared.
        quantization: That of the file.
        limits: What was allowed.
        layers: The comparison layer by layer; made only if the outputs do not keep to the limits, by
            :func:`tfgreen.compare_layers`, and None otherwise or if the file does not know its layers.
    """

    outputs: tuple[OutputComparison, ...]
    samples: int
    quantization: str
    limits: Limits
    layers: LayerErrors | None = None

    @property
    def passed(self) -> bool:
        """Whether every output is finite and keeps to the limits."""
        return all(output.within(self.limits) for output in self.outputs)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a figure that is not finite is None."""
        plain = {
            "passed": self.passed,
            "samples": self.samples,
            "quantization": self.quantization,
            "limits": dataclasses.asdict(self.limits),
            "outputs": [dataclasses.asdict(output) for output in self.outputs],
            "layers": None if self.layers is None else self.layers.to_dict(),
        }
        return _finite(plain)

    def __str__(self) -> str:
        width = max(6, *(len(output.name) for output in self.outputs))
        lines = [f"{'output':<{width}}   max error  mean error  in steps: max     mean    top-1"]
        for o in self.outputs:
            top = "" if o.agreement is None else f"{o.agreement:.2%}"
            errors = f"{o.max_error:>10.3g}  {o.mean_error:>10.3g}  {o.max_steps:>13.2f}  {o.mean_steps:>7.3f}"
            lines.append(f"{o.name:<{width}}  {errors}  {top:>7}".rstrip())
        limits = f"mean <= {self.limits.mean_steps:g} steps, top-1 agreement >= {self.limits.agreement:.0%}"
        if math.isfinite(self.limits.max_steps):
            limits = f"max <= {self.limits.max_steps:g} steps, {limits}"
        verdict = "passed" if self.passed else "FAILED"
        lines.append(f"{verdict}: {self.quantization}, {self.samples} samples ({limits})")
        return "\n".join([*lines, "", str(self.layers)] if self.layers else lines)


def verify(
    model: keras.Model,
    lite: LiteRTModel,
    x: Any,
    *,
    mean_steps: float | None = None,
    max_steps: float | None = None,
    agreement: float | None = None,
) -> VerifyResult:
    """Run both models on the same samples and compare every output; where they differ too much, say which layer it is.

    Args:
        model: The Keras model, run in inference mode.
        lite: The artifact made from it.
        x: Samples in the structure of the model's inputs, at least one. Use data that was not used for calibration.
        mean_steps: Largest mean error allowed, in output steps (see :class:`OutputComparison`). By default 0.02 for a
            float32 file, 0.5 for float16, 2.5 for dynamic, int8 and int16x8.
        max_steps: Largest single error allowed, in output steps. By default 0.5 for a float32 file, none for others.
        agreement: Smallest share of samples on which the top classes must agree. By default 0.99 for a float32 file,
            0.95 for float16, 0.9 for dynamic and int8.

    Raises:
        TypeError: ``lite`` is no ``LiteRTModel``, or ``model`` no ``keras.Model``.
        ValueError: ``x`` does not fit the model, or the two models have different outputs.

    Example:
        >>> import keras
        >>> from tfgreen.deploy.convert import convert
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> verify(model, convert(model), np.ones((4, 3), "float32")).passed
        True
    """
    from tfgreen.model.paths import check_built_model

    check_built_model(model)
    if not isinstance(lite, LiteRTModel):
        raise invalid_type("lite", expected="a LiteRTModel", received=lite)
    got = match(lite.output_structure, lite.predict(x), "output")
    expected = _keras_outputs(model, x)
    names = leaf_names(lite.output_structure)
    shapes = [got[name].shape for name in names]
    if [a.shape for a in expected] != shapes:
        raise invalid_value(
            "lite",
            expected=f"the outputs of model '{model.name}', {[a.shape for a in expected]}",
            received=f"{dict(zip(names, shapes))}",
            fix="Verify an artifact against the model it was made from.",
        )
    default = DEFAULT_LIMITS[lite.quantization]
    limits = Limits(
        default.mean_steps if mean_steps is None else mean_steps,
        default.max_steps if max_steps is None else max_steps,
        default.agreement if agreement is None else agreement,
    )
    fine = 256 if lite.quantization == "int16x8" else 1
    steps = {name: None if step is None else step * fine for name, step in lite.output_steps.items()}
    outputs = tuple(compare(name, want, got[name], steps[name]) for name, want in zip(names, expected))
    result = VerifyResult(outputs, len(expected[0]), lite.quantization, limits)
    if result.passed or "layers" not in lite.metadata:
        return result
    return dataclasses.replace(result, layers=compare_layers(model, lite, x))


def compare(name: str, expected: np.ndarray, got: np.ndarray, step: float | None = None) -> OutputComparison:
    """Compare two arrays of shape ``(samples, ...)``.

    Args:
        name: The output.
        expected: What the Keras model returned.
        got: What the artifact returned, of the same shape.
        step: Units of the output per step; None for 1/255 of the range of ``expected``.

    Example:
        >>> compare("y", np.array([[0.0, 1.0]]), np.array([[0.5, 1.0]]), step=0.25).max_steps
        2.0
    """
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    if not (np.isfinite(expected).all() and np.isfinite(got).all()):
        return OutputComparison(name, math.nan, math.nan, step or math.nan, math.nan, math.nan, None)
    if step is None:
        span = float(np.ptp(expected))
        # A constant output spans nothing: then its own size gives the measure.
        step = (span or float(np.abs(expected).max()) or 1.0) / 255
    error = np.abs(expected - got)
    largest, mean = float(error.max()), float(error.mean())
    top = None
    if expected.ndim == 2 and expected.shape[1] > 1:
        top = float((expected.argmax(axis=1) == got.argmax(axis=1)).mean())
    return OutputComparison(name, largest, mean, step, largest / step, mean / step, top)


def _keras_outputs(model: Any, x: Any) -> list[np.ndarray]:
    """The outputs of the Keras model in reading order, computed in batches without touching its compiled state."""
    spec = read_call_spec(model)
    parts = {name: np.asarray(value) for name, value in match(spec.structure, x, "x").items()}
    batches = []
    for start in range(0, len(next(iter(parts.values()))), _BATCH):
        result = call_model(model, spec, {name: array[start : start + _BATCH] for name, array in parts.items()})
        batches.append([np.asarray(leaf) for leaf in name_leaves(result, lambda _, index: str(index))[1]])
    return [np.concatenate(arrays) for arrays in zip(*batches)]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
