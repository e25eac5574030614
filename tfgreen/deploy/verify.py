"""Verify: does the file still compute what the Keras model computes?"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import keras

from tfgreen.checks import check_instance
from tfgreen.config import named_options
from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.inspection.layer_errors import LayerErrors
from tfgreen.deploy.inspection.output_errors import DEFAULT_LIMITS, OutputComparison, VerifyLimits, compare
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.errors import invalid_value
from tfgreen.model.call_spec import outputs_of, read_call_spec
from tfgreen.model.internals import is_container
from tfgreen.model.paths import check_built_model, walk
from tfgreen.model.samples import sample_arrays
from tfgreen.structure import match, pack, rename
from tfgreen.tables import TableResult
from tfgreen.techniques.shared_scales import channel_axes
from tfgreen.typing import PlainDict, Samples

_BATCH = 32
_CLASS_LOSSES = ("categoricalcrossentropy", "sparsecategoricalcrossentropy", "categoricalfocalcrossentropy")


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

    _headings: ClassVar[tuple[str, ...]] = (
        "output", "max error", "mean error", "max scales", "mean scales", "SQNR dB", "same"
    )

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
        return [
            (
                *(o.name, f"{o.max_error:.3g}", f"{o.mean_error:.3g}", f"{o.max_scales:.2f}", f"{o.mean_scales:.3f}"),
                *(f"{o.sqnr_db:.1f}", "" if o.agreement is None else f"{o.agreement:.2%}"),
            )
            for o in self.outputs
        ]

    def _remarks(self) -> list[str]:
        tasks, limits = {o.task for o in self.outputs}, self.limits
        rules = [f"max <= {limits.max_scales:g} scales"] if math.isfinite(limits.max_scales) else []
        rules += [f"mean <= {limits.mean_scales:g} scales"] if tasks != {"integers"} else []
        rules += [f"top-1 agreement >= {limits.agreement:.0%}"] if "classes" in tasks else []
        rules += [f"equal integers >= {limits.agreement:.0%}"] if "integers" in tasks else []
        rules += [f"SQNR >= {limits.sqnr_db:g} dB"] if "values" in tasks else []
        verdict = "passed" if self.passed else "FAILED"
        line = f"{verdict}: {self.quantization}, {self.samples} samples ({', '.join(rules)})"
        return [line, *(remark for output in self.outputs for remark in output.remarks)]

    def __str__(self) -> str:
        return f"{super().__str__()}\n\n{self.layers}" if self.layers else super().__str__()

    def _repr_html_(self) -> str:
        return super()._repr_html_() + (self.layers._repr_html_() if self.layers else "")


@named_options
def verify(
    model: keras.Model,
    lite: LiteRTModel,
    x: Samples,
    *,
    mean_scales: float | None = None,
    max_scales: float | None = None,
    agreement: float | None = None,
    sqnr_db: float | None = None,
) -> VerifyResult:
    """Run both models on the same samples and compare every output; where they differ too much, say which layer it is.

    Scores of classes (see ``task`` of :class:`OutputComparison`) are judged by the mean error and by whether the top
    classes agree at each position, integers by whether they are equal, all other outputs by the mean error and the
    signal-to-noise ratio of each channel. NaN in both at the same place is no difference.

    Args:
        model: The Keras model, run in inference mode.
        lite: The file converted from it.
        x: Samples, in any form that ``calibration_data`` takes, at least one. Use data that was not used for
            calibration.
        mean_scales: Largest mean error allowed, in scales of the output (see :class:`OutputComparison`). By default
            0.02 for a float32 file, 0.5 for float16, 2.5 for dynamic, int8 and int16x8, and for any file of a model
            that computes in bfloat16; float16 counts likewise.
        max_scales: Largest single error allowed, in scales. By default 0.5 for a float32 file, none for others.
        agreement: Smallest share of positions at which the top classes must agree, or integers be equal. By default
            0.99 for a float32 file, 0.95 for float16, 0.9 for the others. Given, and no output known to be classes,
            all with two values or more in their last axis are.
        sqnr_db: Smallest signal-to-noise ratio of other outputs in decibels. By default 20, and 10 where 8 bits are.

    Raises:
        TypeError: ``lite`` is no ``LiteRTModel``, or ``model`` no ``keras.Model``.
        ValueError: ``x`` does not fit the model, or the two models have different outputs.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> result = tg.verify(model, tg.convert(model), np.ones((4, 3), "float32"))
        >>> result.passed, result.limits.mean_scales, [(output.name, output.task) for output in result.outputs]
        (True, 0.02, [('out', 'values')])
    """
    check_built_model(model)
    check_instance("lite", lite, LiteRTModel, "a LiteRTModel")
    spec = read_call_spec(model)
    arrays = sample_arrays(x, spec, "x", finite=False)
    inputs = rename(arrays, spec.structure, lite.input_structure, "x")
    got = match(lite.output_structure, lite.predict(inputs), "output")
    expected = outputs_of(model, spec, arrays, _BATCH)
    shapes = {name: array.shape for name, array in got.items()}
    if [array.shape for array in expected] != [*shapes.values()]:
        raise invalid_value(
            "lite",
            expected=f"the outputs of model '{model.name}', {[array.shape for array in expected]}",
            received=shapes,
            fix="Verify a file against the model that it was converted from.",
        )
    options = {"mean_scales": mean_scales, "max_scales": max_scales, "agreement": agreement, "sqnr_db": sqnr_db}
    given = {name: value for name, value in options.items() if value is not None}
    limits = dataclasses.replace(DEFAULT_LIMITS[_precision(model, lite)], **given)
    classes = _class_outputs(model, lite)
    if agreement is not None and not classes:
        classes = {name for name, array in got.items() if array.ndim > 1 and array.shape[-1] > 1}
    fine = 256 if lite.quantization == "int16x8" else 1
    scales = {name: None if scale is None else scale * fine for name, scale in lite.output_scales.items()}
    axes = _channel_axes(model, lite)
    outputs = tuple(
        compare(name, a, got[name], scales[name], name in classes, axes[name]) for name, a in zip(got, expected)
    )
    result = VerifyResult(outputs, len(next(iter(arrays.values()))), lite.quantization, limits)
    if result.passed or "layers" not in lite.metadata or lite.lost_samples(inputs):
        return result
    return dataclasses.replace(result, layers=compare_layers(model, lite, arrays))


def _channel_axes(model: keras.Model, lite: LiteRTModel) -> dict[str, tuple[int, ...]]:
    """Along which axes the channels of each output lie, by name."""
    names = keras.tree.flatten(pack(lite.output_structure, {info.name: info.name for info in lite.outputs}))
    return dict(zip(names, channel_axes(model) if is_container(model) else [(-1,)] * len(names)))


def _class_outputs(model: keras.Model, lite: LiteRTModel) -> set[str]:
    """Names of the outputs that are scores of classes: by the file's operators, its labels, and the compiled loss."""
    names = [info.name for info in lite.outputs]
    losses = dict(zip(names, _losses(model, len(names))))
    labels = len(lite.metadata.get("labels", ()))
    return {
        info.name
        for info in lite.outputs
        if len(info.shape) > 1
        and info.shape[-1] != 1
        and (info.name in lite.softmax_outputs or info.shape[-1] == labels or losses.get(info.name) in _CLASS_LOSSES)
    }


def _losses(model: keras.Model, count: int) -> list[str]:
    """The name of the compiled loss of each output, without underscores; one loss is that of all."""
    compiled = getattr(model, "loss", None)
    loss = keras.tree.flatten(compiled)
    found = [x if isinstance(x, str) else getattr(x, "__name__", type(x).__name__) for x in loss]
    return [name.replace("_", "").lower() for name in (found * count if len(found) == 1 else found)]


def _precision(model: keras.Model, lite: LiteRTModel) -> str:
    """What limits how close the two can be: the file's quantization, or the half precision of the model."""
    dtypes = {layer.compute_dtype for _, layer in walk(model)} | {model.compute_dtype}
    if lite.quantization in ("float32", "float16"):
        return next((half for half in ("bfloat16", "float16") if half in dtypes), lite.quantization)
    return lite.quantization
