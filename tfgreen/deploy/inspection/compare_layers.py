"""Compare a Keras model and its file layer by layer, to find where accuracy is lost."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfgreen.deploy.inspection.layer_errors import LayerComparison, LayerErrors
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.contents import tensor_info
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.structure import match

if TYPE_CHECKING:
    import keras

_MOST_SAMPLES = 64


def compare_layers(model: keras.Model, lite: LiteRTModel, x: Any) -> LayerErrors:
    """Run both models on the same samples and compare the output of each layer.

    The file runs on LiteRT's own kernels, because the tensors inside a delegate cannot be read; it is up to 64 samples.

    Args:
        model: The Keras model, run in inference mode.
        lite: The artifact that :func:`tfgreen.convert` made from it.
        x: Samples in the structure of the model's inputs, at least one.

    Raises:
        TypeError: ``lite`` is no ``LiteRTModel``, or ``model`` no ``keras.Model``.
        ValueError: ``x`` does not fit the model, or the file does not know its layers.

    Example:
        >>> import keras
        >>> from tfgreen.deploy.convert import convert
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
        >>> errors = compare_layers(model, convert(model), np.ones((4, 3), "float32"))
        >>> [(layer.layer, layer.sqnr_db > 100) for layer in errors.layers]
        [('out', True)]
    """
    from tfgreen.model.paths import check_built_model

    check_built_model(model)
    if not isinstance(lite, LiteRTModel):
        raise invalid_type("lite", expected="a LiteRTModel", received=lite)
    if "layers" not in lite.metadata:
        raise invalid_value(
            "lite", expected="a file that tfgreen converted, which knows its layers", received="another",
            fix="Make it with tg.convert(model).",
        )  # fmt: skip
    arrays = {name: array[:_MOST_SAMPLES] for name, array in lite.checked_inputs(x).items()}
    places, skipped = _places(lite)
    found = _layer_outputs(model, x, set(places))
    taken = _tensors(lite, arrays, {path: index for path, (_, index) in places.items()})
    sources = _sources(lite, places)
    noise: dict[str, float] = {}
    rows = []
    for path, (number, index) in places.items():
        if path not in found or found[path].size != taken[path].size:
            apart = "called more than once, or not for one tensor"
            skipped[path] = "laid out otherwise in the file" if path in found else apart
            continue
        expected = found[path].astype(np.float64)
        error = np.abs(expected - taken[path].reshape(expected.shape))
        power = float((expected**2).sum())
        noise[path] = float((error**2).sum()) / power if power else math.inf if error.any() else 0.0
        status = lite.audit.operators[number]
        merged = tuple(layer for layer in status.layers if layer != path)
        compared = tuple(source for source in sources[path] if source in noise)
        step = tensor_info(lite.parsed, path, index).scale
        rows.append(
            LayerComparison(
                path, merged, compared, status.operator, noise[path],
                noise[path] - max((noise[source] for source in compared), default=0.0),
                float(error.mean()), float(error.max()), step, _outliers(expected), _channels_apart(expected),
            )
        )  # fmt: skip
    return LayerErrors(tuple(rows), skipped)


def _places(lite: LiteRTModel) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Path of a layer -> the last operator that is its own, and the tensor that this makes; and who is merged away."""
    graph = lite.parsed.subgraphs[0]
    places: dict[str, tuple[int, int]] = {}
    merged: dict[str, str] = {}
    for number, status in enumerate(lite.audit.operators):
        if status.layers:
            path = status.layers[-1]
            for layer in status.layers:  # what an operator made for them before is not their output
                places.pop(layer, None)
                merged[layer] = f"merged into {path}"
            places[path] = (number, int(graph.operators[number].outputs[0]))
    return places, {layer: why for layer, why in merged.items() if layer not in places}


def _sources(lite: LiteRTModel, places: Mapping[str, tuple[int, int]]) -> dict[str, list[str]]:
    """For each layer those whose outputs its operators take."""
    graph = lite.parsed.subgraphs[0]
    makers = {int(tensor): op for op in graph.operators for tensor in op.outputs}
    owner = {index: path for path, (_, index) in places.items()}
    found: dict[str, list[str]] = {}
    for path, (_, index) in places.items():
        seen, waiting, found[path] = {index}, [index], []
        while waiting:
            maker = makers.get(waiting.pop())
            for tensor in [] if maker is None else [int(i) for i in maker.inputs if i >= 0]:
                if tensor in seen:
                    continue
                seen.add(tensor)
                if tensor in owner:
                    found[path].append(owner[tensor])
                else:
                    waiting.append(tensor)
    return found


def _layer_outputs(model: Any, x: Any, wanted: set[str]) -> dict[str, np.ndarray]:
    """The output of each layer that is called once and returns one tensor."""
    from tfgreen.model.layer_calls import LayerCalls

    spec = read_call_spec(model)
    calls = LayerCalls(model, lambda number: contextlib.nullcontext())
    arrays = {name: np.asarray(value)[:_MOST_SAMPLES] for name, value in match(spec.structure, x, "x").items()}
    with calls.listen():
        call_model(model, spec, arrays)
    once = [path for path in wanted if calls.paths.count(path) == 1]
    outputs = {path: calls.outputs[calls.paths.index(path)] for path in once}
    return {path: np.asarray(output) for path, output in outputs.items() if hasattr(output, "shape")}


def _tensors(lite: LiteRTModel, arrays: Mapping[str, np.ndarray], wanted: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Real values of tensors of the file, by name, for each sample."""
    infos = {name: tensor_info(lite.parsed, name, index) for name, index in wanted.items()}
    interpreter = lite.new_interpreter(keep_tensors=True)
    found: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    for sample in range(len(next(iter(arrays.values())))):
        lite.feed(interpreter, {name: array[sample : sample + 1] for name, array in arrays.items()})
        interpreter.invoke()
        for name, index in wanted.items():
            found[name].append(np.array(interpreter.get_tensor(index)))
    return {name: infos[name].to_real(np.stack(values)) for name, values in found.items()}


def _outliers(values: np.ndarray) -> float:
    sizes = np.abs(values)
    most = float(np.percentile(sizes, 99.9))
    return float(sizes.max()) / most if most else 1.0


def _channels_apart(values: np.ndarray) -> float:
    ranges = np.percentile(np.abs(values).reshape(-1, values.shape[-1]), 90, axis=0)  # outliers are another matter
    ranges = ranges[ranges > 0]
    return float(ranges.max() / ranges.min()) if ranges.size else 1.0
