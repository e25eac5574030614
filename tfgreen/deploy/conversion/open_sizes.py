"""Inputs of an open size: what TensorFlow's converter takes wrongly then, and a look at the file at several sizes.

TensorFlow 2.21 writes TimeDistributed over an open length as a loop over one step, and loses the number of channels
that nearest upsampling leaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from tfgreen.deploy.conversion.record import Conversion
from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.inspection.output_distance import distance
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.interpreter import run_all
from tfgreen.errors import ConversionError
from tfgreen.model.call_spec import call_model
from tfgreen.model.layer_calls import Around
from tfgreen.model.paths import walk
from tfgreen.structure import leaf_names, name_leaves, pack
from tfgreen.typing import Tensor, Tensors

_UPSAMPLING = (keras.layers.UpSampling1D, keras.layers.UpSampling2D)
# Sizes of the odd axes and of the even ones; a model may need the larger of them, and even ones.
_SIZES = ((12, 20), (32, 24), (64, 96), (160, 128), (224, 320))
_RUNS = 2
_TABLES = 16  # whose lengths are tried


@dataclasses.dataclass(frozen=True, eq=False)
class SizedRun:
    """One sample of some size, by the name of the input, and what the model returns for it, in reading order."""

    inputs: Mapping[str, np.ndarray]
    outputs: Sequence[np.ndarray]


def open_size_calls(model: keras.Model) -> dict[tuple[keras.Operation, str], Around]:
    """What stands for the calls of layers, on tensors of an open size, while a model is traced for the converter."""
    layers = dict.fromkeys(layer for _, layer in walk(model))
    folded = {(la, "call"): _every_step_at_once for la in layers if type(la) is keras.layers.TimeDistributed}
    return {**folded, **{(la, "call"): _upsampled for la in layers if type(la) in _UPSAMPLING}}


def _every_step_at_once(
    layer: keras.layers.TimeDistributed, call: Around, x: Tensor, training: bool | None = None, mask: object = None
) -> Tensors:
    """The steps of TimeDistributed as samples of one batch."""
    if x.shape[1] is not None or mask is not None:
        return call(x, training=training, mask=mask)
    shape = ops.shape(x)
    options = {"training": training} if layer.layer._call_has_training_arg else {}
    y = layer.layer.call(ops.reshape(x, (-1, *shape[2:])), **options)
    return ops.reshape(y, (shape[0], -1, *ops.shape(y)[1:]))


def _upsampled(layer: keras.Layer, call: Around, x: Tensor) -> Tensor:
    """Upsampling as one operator, which keeps the number of channels."""
    import tensorflow as tf

    method = getattr(layer, "interpolation", "nearest")
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    if None not in x.shape[1:-1] or not last or method not in ("nearest", "bilinear"):
        return call(x)
    flat = len(x.shape) == 3
    image, factors = (x[:, :, None], (layer.size, 1)) if flat else (x, layer.size)
    shape = ops.shape(image)
    y = tf.image.resize(image, (shape[1] * factors[0], shape[2] * factors[1]), method)
    return ops.squeeze(y, 2) if flat else y


def runs_at_sizes(conversion: Conversion) -> list[SizedRun]:
    """Run the model on random inputs of sizes that it takes, where its inputs leave some open."""
    runs: list[SizedRun] = []
    if not conversion.has_open_sizes:
        return runs
    rng, spec = np.random.default_rng(0), conversion.spec
    # A model may take sequences of one length only, that of its table of positions.
    lengths = {weight.shape[0] for weight in conversion.original.weights if len(weight.shape) == 2}
    of_tables = [(length, length) for length in sorted(lengths)[:_TABLES]]
    for sizes in (*_SIZES, *of_tables):
        if runs and sizes in of_tables:
            break
        inputs = {}
        for item in spec.inputs:
            shape = (1, *(sizes[axis % 2] if size is None else size for axis, size in enumerate(item.shape)))
            values = rng.random(shape) if item.dtype.startswith("float") else rng.integers(0, 2, shape)
            inputs[item.name] = values.astype(item.dtype)
        try:
            result = call_model(conversion.original, spec, inputs)
        except Exception:  # noqa: B902 - a model raises anything at a size that it does not take
            continue
        runs.append(SizedRun(inputs, [np.asarray(leaf) for leaf in name_leaves(result, lambda _, i: str(i))[1]]))
        if len(runs) == _RUNS:
            break
    return runs


def check_sizes(conversion: Conversion, lite: LiteRTModel, runs: Sequence[SizedRun]) -> None:
    """Raise unless the file returns at each size what the model does; integers, whose ranges hold for the calibration
    data only, must have its shape.

    Raises:
        ConversionError: It does not, with the layer where it begins.
    """
    if any(operator.startswith("Flex") for operator in lite.operators):
        return
    for run in runs[:1]:
        _check_rows(conversion, lite, run)
    for run in runs:
        shapes = {name: array.shape for name, array in run.inputs.items()}
        try:
            found = run_all(lite.new_interpreter(input_shapes=shapes), lite.inputs, lite.outputs, run.inputs)
            got = [found[name] for name in leaf_names(lite.output_structure)]
        except ConversionError as error:
            problem = f"LiteRT cannot run the file ({error})"
        else:
            problem = _problem(run.outputs, got, values=not conversion.config.integers)
        if problem:
            sizes = [*shapes.values()]
            raise conversion.refused(
                f"its inputs leave sizes open, and with inputs of shapes {sizes}, which the model takes, {problem}. "
                f"{_culprit(conversion, lite, run)}Give keras.Input a fixed size, or replace the layer."
            )


def _check_rows(conversion: Conversion, lite: LiteRTModel, run: SizedRun) -> None:
    """Raise if a row of an output belongs to several samples, which a file that runs one by one does not see."""
    if conversion.spec.batch is not None:
        return
    try:
        both = call_model(conversion.original, conversion.spec, {k: np.repeat(v, 2, 0) for k, v in run.inputs.items()})
    except Exception:  # noqa: B902 - a model whose code takes one sample at a time raises anything
        return
    names = leaf_names(lite.output_structure)
    for name, two, one in zip(names, name_leaves(both, lambda _, i: str(i))[1], run.outputs, strict=True):
        if two.shape[:1] == (2 * len(np.atleast_1d(one)),) and np.size(two) != 2 * one.size:
            raise conversion.rows_are_no_samples(name, tuple(two.shape), (2, *one.shape[1:]))


def _problem(expected: Sequence[np.ndarray], got: Sequence[np.ndarray], values: bool) -> str:
    for model, file in zip(expected, got, strict=True):
        if model.shape != file.shape:
            return f"the file returns shape {file.shape} instead of {model.shape}"
        if values and model.dtype.kind == "f" and distance(model, file, None).is_far:
            return "the file returns other values"
    return ""


def _culprit(conversion: Conversion, lite: LiteRTModel, run: SizedRun) -> str:
    """A sentence on the layer whose output differs first, or nothing where none can be named."""
    x = pack(conversion.spec.structure, run.inputs)
    try:
        errors = compare_layers(conversion.original, lite, x)
    except ConversionError as error:
        row = lite.audit.operator_of(str(error))
    else:
        odd = [path for path, reason in errors.skipped.items() if reason.startswith("laid out")]
        odd += [layer.layer for layer in errors.layers if not layer.noise < 0.1]
        row = next((row for row in lite.audit.operators if odd and row.layers[-1:] == (odd[0],)), None)
    return "" if row is None else f"It begins with {row.operator} of {row.where}. "
