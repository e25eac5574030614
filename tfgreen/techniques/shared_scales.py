"""Say what a quantized model loses that no training brings back, with a remedy that was tried: channels of inputs or
outputs that share a scale with larger ones, or all that some layer makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np

from tfgreen.errors import TfgreenError, listed
from tfgreen.model.call_spec import call_model
from tfgreen.model.graph import LayerGraph, LayerNode, inputs_by_name
from tfgreen.model.internals import is_container
from tfgreen.model.layer_calls import Around, around_calls, every_operation
from tfgreen.model.weights import is_own
from tfgreen.quantization.activation_quantizer import ActivationQuantizer, ranges_of_input
from tfgreen.quantization.feature_scales import lost_channels, lost_features
from tfgreen.quantization.lowering import UNIT
from tfgreen.quantization.op_classes import inner_operation, is_concat_like, is_identity, is_pass_through
from tfgreen.structure import CallSpec
from tfgreen.typing import Tensors

_SURE = 0.02  # of the power of a channel, as noise
LOST = 0.1  # of the variance of an output, as noise: more than 8 bits cost
_FEW_SCALES = 4.0
_FURTHER = 3  # readers of readers that are tried
_STEP, _CANDIDATES = 4.0, 2  # times the noise of what a layer takes in; layers that are tried

Retry = Callable[[tuple[str, ...]], keras.Model]


def shared_scale_loss(
    model: keras.Model, spec: CallSpec, samples: Mapping[str, np.ndarray], got: Tensors, scales: Tensors, retry: Retry
) -> str:
    """A sentence on the channels of a float model that its quantized form has lost, and a remedy; "" if there are none.

    Args:
        model: The float model.
        spec: What it is called with.
        samples: An array for each input, by name.
        got: What the quantized form returns for them, in the structure of the model's outputs.
        scales: The scale of each output, in that structure too.
        retry: The quantized form in Keras, given the layers to keep in float.
    """
    expected = _flat(call_model(model, spec, samples))
    if not is_container(model):
        return ""
    outputs = zip(expected, _flat(got), keras.tree.flatten(scales), channel_axes(model), strict=True)
    found = {
        (index, axis): channels
        for index, (x, y, scale, axes) in enumerate(outputs)
        for axis in axes
        if x.dtype.kind == "f" and (channels := lost_channels(x, y, scale, axis))
    }
    if not found:
        return ""
    nodes = LayerGraph(model).outputs
    which = "; ".join(
        f"{channels} ({axis_named(axis)}) of what '{nodes[index].path}' returns"
        for (index, axis), channels in found.items()
    )
    text = f"Channels {which} are lost: they share a scale with channels over 20 times as large. "

    def helps(paths: tuple[str, ...]) -> bool:
        try:
            better = _flat(call_model(retry(paths), spec, samples))
        except TfgreenError:
            return False
        # By a margin: of other samples the file may lose a channel that it just keeps of these.
        return not any(lost_channels(expected[index], better[index], None, axis, _SURE) for index, axis in found)

    lost = [nodes[index] for index, _ in found]
    joins = [path for node in lost for path in _joining(node)]
    makers = [path for node in lost for path in _makers(node)]  # which may lose a channel before it is joined
    for paths in dict.fromkeys(tuple(dict.fromkeys(found)) for found in (joins, [*joins, *makers])):
        if helps(paths):
            return f"{text}Let it compute in float32: keep_float={paths}."
    return f"{text}Return them as outputs of their own."


def input_scale_loss(
    model: keras.Model, quantized: keras.Model, spec: CallSpec, samples: Mapping[str, np.ndarray], retry: Retry
) -> str:
    """A sentence on the features of its inputs that a quantized model has lost, and a remedy; "" if there are none.

    Args:
        model: The float model.
        quantized: The model, rounded as its file rounds.
        spec: What both are called with.
        samples: An array for each input, by name.
        retry: The quantized form in Keras, given the layers to keep in float.
    """
    found = _lost_features(quantized, spec, samples)
    if not found:
        return ""
    which = "; ".join(f"{listed(features)} (last axis) of input '{name}'" for name, features in found.items())
    text = (
        f"Features {which} are lost: they share a scale with features over 20 times as large. Scale each by itself "
        "first, with an adapted keras.layers.Normalization"
    )
    enough = max(LOST, output_noise(model, quantized, spec, samples) / 2)

    def helps(paths: tuple[str, ...]) -> bool:
        try:
            better = retry(paths)
        except TfgreenError:
            return False
        return not _lost_features(better, spec, samples) and output_noise(model, better, spec, samples) <= enough

    nodes = inputs_by_name(quantized, spec)
    reached = list(dict.fromkeys(consumer for name in found for consumer in _readers(nodes[name])))
    for _ in range(_FURTHER):  # what reads an input may only hand it on, and its reader lose the same
        paths = tuple(dict.fromkeys(node.path for node in reached))
        if helps(paths):
            return f"{text}, or let what reads it compute in float32: keep_float={paths}."
        reached = list(dict.fromkeys([*reached, *(then for node in reached for then in node.consumers)]))
    return f"{text}."


def _lost_features(
    quantized: keras.Model, spec: CallSpec, samples: Mapping[str, np.ndarray]
) -> dict[str, list[int]]:
    """The features that each input loses where they are rounded, by its name."""
    found: dict[str, list[int]] = {}
    for name, node in inputs_by_name(quantized, spec).items() if is_container(quantized) else ():
        x = samples[name]
        lost = {
            feature
            for range_ in (ranges_of_input(node) if x.dtype.kind == "f" else ())
            for feature in lost_features(x, keras.ops.convert_to_numpy(range_.round(keras.ops.cast(x, "float32"))))
        }
        if lost:
            found[name] = sorted(lost)
    return found


def _readers(node: LayerNode) -> Iterator[LayerNode]:
    """The layers that take a tensor in, with those that take it from what passes it on."""
    for consumer in node.consumers:
        yield consumer
        if is_pass_through(inner_operation(consumer.layer)):
            yield from _readers(consumer)


def layer_loss(
    model: keras.Model, quantized: keras.Model, spec: CallSpec, samples: Mapping[str, np.ndarray], retry: Retry
) -> tuple[str, tuple[str, ...]]:
    """The layer of a quantized model that loses what its outputs lack, "" if none does, and the layers which to keep in
    float helps; of those that lose much more than what they take in, the first ones.

    Args:
        model: The float model, of the same graph as ``quantized``.
        quantized: The model, rounded as its file rounds.
        spec: What both are called with.
        samples: An array for each input, by name.
        retry: The quantized form in Keras, given the layers to keep in float.
    """
    expected, got = (_outputs_by_path(one, spec, samples) for one in (model, quantized))
    at = {path: noise_of(values, got[path]) for path, values in expected.items() if path in got}
    found = [
        node
        for node in LayerGraph(model).nodes
        if at.get(node.path, 0.0) > max(_STEP * max((at.get(x.path, 0.0) for x in node.producers), default=0), _SURE)
    ]
    for node in found[:_CANDIDATES]:
        makers = [one.path for one in node.producers if not isinstance(one.layer, keras.layers.InputLayer)]
        readers = [one.path for one in node.consumers]
        for paths in ([node.path], [*makers, node.path], [*makers, node.path, *readers]):
            kept = tuple(dict.fromkeys(paths))
            try:
                noise = output_noise(model, retry(kept), spec, samples)
            except TfgreenError:
                continue
            if noise < LOST:
                return node.path, kept
    return found[0].path if found else "", ()


def output_noise(
    model: keras.Model, quantized: keras.Model, spec: CallSpec, samples: Mapping[str, np.ndarray]
) -> float:
    """The noise of the output that is furthest off, as a share of its variance."""
    pairs = [*zip(*(_flat(call_model(one, spec, samples)) for one in (model, quantized)))]
    nodes = LayerGraph(quantized).outputs if is_container(quantized) else [None] * len(pairs)
    scales = [1 / 256 if node is not None and _is_share(node) else None for node in nodes]
    noise = (noise_of(a, b, scale) for (a, b), scale in zip(pairs, scales) if a.dtype.kind == "f")
    return max(noise, default=0.0)


def _is_share(node: LayerNode) -> bool:
    """Whether an output of a quantized model is rounded as a softmax or sigmoid is, in 256 steps up to 1."""
    hook = getattr(_passed(node)[-1].layer, "activations", None)
    return isinstance(hook, ActivationQuantizer) and hook.placement.output == UNIT


def noise_of(expected: np.ndarray, got: np.ndarray, scale: float | None = None) -> float:
    """The mean square error over the variance, of numbers that are finite in ``expected``; infinite where they are not
    all in ``got``. What hardly varies, as the outputs of an untrained model, counts as varying by a few scales, by
    default 1/255 of the largest number.

    Example:
        >>> noise_of(np.array([-1.0, 1.0]), np.array([-0.5, 0.5]))
        0.25
    """
    finite = np.isfinite(expected)
    a, b = (x[finite].astype(np.float64) for x in (expected, got))
    if not np.isfinite(b).all():
        return np.inf
    if not a.size:
        return 0.0
    scale = scale or float(np.abs(a).max()) / 255
    return float(np.square(a - b).mean() / (max(a.var(), (_FEW_SCALES * scale) ** 2) or 1.0))


def _outputs_by_path(
    model: keras.Model, spec: CallSpec, samples: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What each layer and operation of a graph returns, in its last call, where that is one tensor of floats."""
    paths = {id(node.layer): node.path for node in LayerGraph(model).nodes}
    found: dict[str, np.ndarray] = {}

    def around(operation: keras.Operation, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
        outputs = call(*args, **kwargs)
        if id(operation) in paths and keras.ops.is_tensor(outputs) and outputs.dtype.is_floating:
            found[paths[id(operation)]] = keras.ops.convert_to_numpy(outputs)
        return outputs

    with around_calls(every_operation(model), around):
        call_model(model, spec, samples)
    return found


def channel_axes(model: keras.Model) -> list[tuple[int, ...]]:
    """Along which axes the channels of each output of a Sequential or functional model lie, flat: the last, and that
    along which a concat-like layer joins them; the first after the samples where a layer says ``channels_first``.

    Example:
        >>> boxes, scores = keras.Input((4, 100)), keras.Input((80, 100))
        >>> channel_axes(keras.Model([boxes, scores], keras.layers.Concatenate(axis=1)([boxes, scores])))
        [(-1, 1)]
    """
    return [_axes(node) for node in LayerGraph(model).outputs]


def axis_named(axis: int) -> str:
    """An axis of channels in words."""
    return "last axis" if axis == -1 else f"axis {axis}"


def _axes(node: LayerNode) -> tuple[int, ...]:
    *moves, source = _passed(node)
    layer, rank = inner_operation(source.layer), len(source.output_shapes[0])
    joins, first = is_concat_like(layer), getattr(layer, "data_format", None) == "channels_first"
    axis = getattr(layer, "axis", -1) % rank if joins and rank else 1 if first else rank - 1
    for move in map(inner_operation, (move.layer for move in reversed(moves))):
        if is_own(move, (keras.layers.Permute,)):
            axis = (0, *move.dims).index(axis)
        elif not is_identity(move):
            return (-1,)
    return (-1,) if axis in (0, rank - 1) else (axis,) if first else (-1, axis)


def _passed(node: LayerNode) -> list[LayerNode]:
    """A node, with those whose values it only passes on."""
    chain = [node]
    while is_pass_through(inner_operation(chain[-1].layer)) and len(chain[-1].producers) == 1:
        chain.append(chain[-1].producers[0])
    return chain


def _flat(outputs: Tensors) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(outputs)]


def _joining(node: LayerNode, inner: bool = False) -> Iterator[str]:
    """The layers that bring together what gets one scale, with those that pass it on to a node."""
    chain = _passed(node)
    joins = is_concat_like(inner_operation(chain[-1].layer))
    if joins or not inner:
        yield from (one.path for one in chain)
    for producer in chain[-1].producers if joins else ():
        yield from _joining(producer, inner=True)


def _makers(node: LayerNode) -> Iterator[str]:
    """The layers that make what is joined, with what passes that on."""
    for producer in _passed(node)[-1].producers:
        chain = _passed(producer)
        yield from (one.path for one in chain if not isinstance(one.layer, keras.layers.InputLayer))
        if is_concat_like(inner_operation(chain[-1].layer)):
            yield from _makers(producer)
