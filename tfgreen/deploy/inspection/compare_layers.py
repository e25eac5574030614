"""Compare a Keras model and its file layer by layer, to find where accuracy is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfgreen.checks import check_instance
from tfgreen.deploy.inspection.layer_errors import GOOD, LayerComparison, LayerErrors, Remedy
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.contents import tensor_info
from tfgreen.deploy.tflite.interpreter import run_all
from tfgreen.errors import InvalidValueError, invalid_state
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.fingerprint import fingerprint
from tfgreen.model.internals import is_container
from tfgreen.model.layer_calls import LayerCalls
from tfgreen.model.paths import check_built_model, walk
from tfgreen.model.samples import sample_arrays
from tfgreen.model.weights import quantizable_weights
from tfgreen.structure import CallSpec, pack, rename
from tfgreen.techniques.equalize import equalize
from tfgreen.techniques.quantize import is_quantized, rounded
from tfgreen.techniques.quantize_config import QuantizeConfig
from tfgreen.typing import Samples

_MOST_SAMPLES = 64
_ENOUGH, _LEFT, _LEAST_FACTOR = 16, 0.01, 0.02  # values of a channel; of the noise; of the model's output
_RESCALED = "the file holds a multiple of it, or a sum, as where the converter folds in what follows"
_OTHER = "The file was converted from another model, or before the weights of this one changed: convert it again."


def compare_layers(model: keras.Model, lite: LiteRTModel, x: Samples) -> LayerErrors:
    """Run both models on the same samples and compare the output of each layer.

    The file runs on LiteRT's own kernels, because the tensors inside a delegate cannot be read.

    Args:
        model: The Keras model, run in inference mode.
        lite: The file that :func:`tfgreen.convert` returned for it.
        x: Samples, in any form that ``calibration_data`` takes, at least one, of which the first 64 are used, or as
            many as fill batches of the size that the model fixes.

    Returns:
        The errors of the layers, with the cause and the remedies that apply: equalization is offered where a copy of
        the model was equalized and its channels came out even, ``keep_float`` of a conversion where it was tried on a
        copy that rounds as the file does, and halved the noise. ``notes`` says so if the file is that of another model.

    Raises:
        TypeError: ``lite`` is no ``LiteRTModel``, or ``model`` no ``keras.Model``.
        ValueError: ``x`` does not fit the model, or the file does not know its layers.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> errors = tg.compare_layers(model, tg.convert(model), np.ones((4, 3), "float32"))
        >>> [(layer.layer, layer.sqnr_db > 100) for layer in errors.layers]
        [('out', True)]
    """
    check_built_model(model)
    check_instance("lite", lite, LiteRTModel, "a LiteRTModel")
    if "layers" not in lite.metadata:
        raise invalid_state("lite: the file does not know its Keras layers.", "Convert the model with tg.convert.")
    spec = read_call_spec(model)
    arrays = sample_arrays(x, spec, "x", finite=False)
    whole = spec.batch or 1  # batches of the size that the model fixes
    count = max(whole, min(len(next(iter(arrays.values()))), _MOST_SAMPLES) // whole * whole)
    arrays = {name: array[:count] for name, array in arrays.items()}
    places, skipped = _places(lite)
    computed = _layer_outputs(model, spec, arrays, set(places))
    infos = [tensor_info(lite.parsed, path, index) for path, (_, index) in places.items()]
    inputs = rename(arrays, spec.structure, lite.input_structure, "x")
    lite.warn_of(lite.lost_samples(inputs), stacklevel=2)
    shapes = {name: (1, *array.shape[1:]) for name, array in inputs.items()}
    interpreter = lite.new_interpreter(keep_tensors=True, input_shapes=shapes)
    stored = run_all(interpreter, lite.inputs, infos, inputs)
    sources = _sources(lite, places)
    rows: dict[str, LayerComparison] = {}
    for info in infos:
        path = info.name
        if path not in computed or computed[path].size != stored[path].size:
            several = "called more than once, or has several outputs"
            skipped[path] = "laid out otherwise in the file" if path in computed else several
            continue
        expected = computed[path].astype(np.float64)
        got = stored[path].reshape(expected.shape)
        error, noise = np.abs(expected - got), _noise(expected, got)
        if noise > GOOD and _is_rescaled(expected, got):
            skipped[path] = _RESCALED
            continue
        status = lite.audit.operators[places[path][0]]
        before = tuple(source for source in sources[path] if source in rows)
        rows[path] = LayerComparison(
            layer=path,
            fused=tuple(layer for layer in status.layers if layer != path),
            sources=before,
            operator=status.operator,
            noise=noise,
            added_noise=noise - max((rows[source].noise for source in before), default=0.0),
            mean_error=float(error.mean()),
            max_error=float(error.max()),
            scale=info.scale,
            outlier_ratio=_outlier_ratio(expected),
            channel_imbalance=_channel_imbalance(expected),
        )
    notes = () if lite.metadata.get("source_sha256") in (None, fingerprint(model)) else (_OTHER,)
    return _with_remedies(LayerErrors(tuple(rows.values()), skipped, notes=notes), model, lite, spec, arrays)


def _with_remedies(
    errors: LayerErrors, model: keras.Model, lite: LiteRTModel, spec: CallSpec, arrays: Mapping[str, np.ndarray]
) -> LayerErrors:
    found = set[Remedy]()
    if is_container(model):
        found = {"train"} if is_quantized(model) else {"train", "place"} if lite.quantization == "int8" else set()
    inside = walk(getattr(model, "stands_for", model))
    rounded = {path for path, layer in inside if quantizable_weights(getattr(layer, "stands_for", layer))}
    if rounded and all(_is_within(path, errors.kept) for path in rounded):
        found.clear()  # nothing would be left to quantize
    if "place" in found and errors.kept and not _helps_in_float(errors, model, spec, arrays):
        found.clear()
    if lite.quantization in ("float32", "float16"):
        return dataclasses.replace(errors, remedies=frozenset({"alone"}))
    if errors.uneven is not None and _evens_out(errors.uneven, model, spec, arrays):
        found.add("equalize")
    return dataclasses.replace(errors, remedies=frozenset(found))


def _helps_in_float(
    errors: LayerErrors, model: keras.Model, spec: CallSpec, arrays: Mapping[str, np.ndarray]
) -> bool:
    """Whether the layer that loses most loses less than half as much, where the layers to keep in float are."""
    worst, data = errors.worst, pack(spec.structure, arrays)
    if worst is None or worst.noise < GOOD:
        return True  # nothing is offered
    try:
        tried, _ = rounded(model, QuantizeConfig(calibration_data=data, keep_float=errors.kept, ranges="fixed"))
    except InvalidValueError:
        return False
    exact, outputs = (_layer_outputs(one, spec, arrays, {worst.layer}) for one in (model, tried))
    return all(_noise(exact[path], output) < worst.noise / 2 for path, output in outputs.items())


def _noise(expected: np.ndarray, got: np.ndarray) -> float:
    """The power of the difference as a share of the signal's."""
    expected, error = expected.astype(np.float64), got.astype(np.float64) - expected
    power = float((expected**2).sum())
    return float((error**2).sum()) / power if power else math.inf if error.any() else 0.0


def _is_rescaled(expected: np.ndarray, got: np.ndarray) -> bool:
    """Whether each channel of an output, its last axis, is that of the model times a factor and plus a number; where
    there are too few values of each to tell, whether the whole is. A factor near 0 is none: that output is lost."""
    channels = expected.shape[-1] if expected.ndim > 1 and expected.size >= _ENOUGH * expected.shape[-1] else 1
    if expected.size < _ENOUGH * channels:
        return False
    x, y = (values.reshape(-1, channels) for values in (expected, got))
    x_less_mean, y_less_mean = x - x.mean(axis=0), y - y.mean(axis=0)
    power = (x_less_mean**2).sum(axis=0)
    varies = power > 0
    factor = np.where(varies, (x_less_mean * y_less_mean).sum(axis=0) / np.where(varies, power, 1.0), 1.0)
    left = ((y_less_mean - factor * x_less_mean) ** 2).sum()
    return bool(left < _LEFT * ((y - x) ** 2).sum() and (np.abs(factor) > _LEAST_FACTOR).all())


def _is_within(path: str, layers: Sequence[str]) -> bool:
    return any(path == layer or path.startswith(f"{layer}/") for layer in layers)


def _evens_out(
    uneven: LayerComparison, model: keras.Model, spec: CallSpec, arrays: Mapping[str, np.ndarray]
) -> bool:
    """Whether equalization applies to a model and brings the ranges of a layer's channels much closer together."""
    try:
        outputs = _layer_outputs(equalize(model), spec, arrays, {uneven.layer})
    except InvalidValueError:
        return False
    return any(_channel_imbalance(output) < uneven.channel_imbalance / 4 for output in outputs.values())


def _places(lite: LiteRTModel) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Path of a layer -> its last own operator and that operator's output; path of a fused layer -> why it has none."""
    graph = lite.parsed.subgraphs[0]
    places: dict[str, tuple[int, int]] = {}
    fused: dict[str, str] = {}
    around: dict[str, str] = {}  # an operator that does more than a layer does, such as to scale the query of attention
    for number, status in enumerate(lite.audit.operators):
        if status.layers:
            path = status.layers[-1]
            for layer in status.layers:  # an earlier operator does not compute their output
                places.pop(layer, None)
                fused[layer] = f"fused into {path}"
            places[path] = (number, int(graph.operators[number].outputs[0]))
            outer = next((layer for layer in status.layers if path.startswith(f"{layer}/")), None)
            around.update({} if outer is None else {path: f"computed together with a part of {outer}"})
    for path, (number, _) in places.items():
        inner = [one for one, (later, _) in places.items() if later > number and one.startswith(f"{path}/")]
        around.update({path: f"its output is that of {inner[-1]}"} if inner else {})
    places = {path: place for path, place in places.items() if path not in around}
    return places, {layer: why for layer, why in {**fused, **around}.items() if layer not in places}


def _sources(lite: LiteRTModel, places: Mapping[str, tuple[int, int]]) -> dict[str, list[str]]:
    """Path of a layer -> the layers whose outputs its operators take."""
    graph = lite.parsed.subgraphs[0]
    producers = {int(tensor): op for op in graph.operators for tensor in op.outputs}
    owner = {index: path for path, (_, index) in places.items()}
    found: dict[str, list[str]] = {}
    for path, (_, index) in places.items():
        seen, waiting, found[path] = {index}, [index], []
        while waiting:
            producer = producers.get(waiting.pop())
            inputs = {} if producer is None else dict.fromkeys(int(i) for i in producer.inputs if i >= 0)
            new = [tensor for tensor in inputs if tensor not in seen]
            seen.update(new)
            found[path] += [owner[tensor] for tensor in new if tensor in owner]
            waiting += [tensor for tensor in new if tensor not in owner]
    return found


def _layer_outputs(
    model: keras.Model, spec: CallSpec, arrays: Mapping[str, np.ndarray], paths: set[str]
) -> dict[str, np.ndarray]:
    """The output of each layer that is called once and returns one tensor."""
    parts: dict[str, list[np.ndarray]] = {}
    count = len(next(iter(arrays.values())))
    for part in spec.slices(count, count):
        calls = LayerCalls(model, lambda number: contextlib.nullcontext())
        with calls.listen():
            call_model(model, spec, {name: array[part] for name, array in arrays.items()})
        for path, output in zip(calls.paths, calls.outputs):
            if path in paths and calls.paths.count(path) == 1 and hasattr(output, "shape"):
                parts.setdefault(path, []).append(np.atleast_1d(np.asarray(output)))
    return {path: np.concatenate(found) for path, found in parts.items()}


def _outlier_ratio(values: np.ndarray) -> float:
    most, largest = np.percentile(np.abs(values), (99.9, 100))
    return float(largest / most) if most else 1.0


def _channel_imbalance(values: np.ndarray) -> float:
    ranges = np.percentile(np.abs(values).reshape(-1, values.shape[-1]), 90, axis=0)  # outliers are another matter
    ranges = ranges[ranges > 0]
    return float(ranges.max() / ranges.min()) if ranges.size else 1.0
