"""Say where outputs of a model lose channels to a scale that they share with larger ones, with a remedy that was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import keras
import numpy as np

from tfgreen.errors import TfgreenError
from tfgreen.model.call_spec import call_model
from tfgreen.model.graph import LayerGraph, LayerNode
from tfgreen.model.internals import is_container
from tfgreen.quantization.feature_scales import lost_channels
from tfgreen.quantization.op_classes import inner_operation, is_concat_like, is_pass_through
from tfgreen.structure import CallSpec
from tfgreen.typing import Tensors

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
    found = {
        index: channels
        for index, (x, y, scale) in enumerate(zip(expected, _flat(got), keras.tree.flatten(scales), strict=True))
        if x.dtype.kind == "f" and (channels := lost_channels(x, y, scale))
    }
    if not found or not is_container(model):
        return ""
    outputs = LayerGraph(model).outputs
    paths = tuple(dict.fromkeys(path for index in found for path in _joining(outputs[index])))
    which = "; ".join(f"{channels} of what '{outputs[index].path}' returns" for index, channels in found.items())
    text = f"Channels (last axis) {which} are lost: they share a scale with channels over 20 times as large. "
    try:
        better = _flat(call_model(retry(paths), spec, samples))
    except TfgreenError:
        better = _flat(got)
    helps = not any(lost_channels(expected[index], better[index]) for index in found)
    remedy = f"Let it compute in float32: keep_float={paths}." if helps else "Return them as outputs of their own."
    return text + remedy


def _flat(outputs: Tensors) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(outputs)]


def _joining(node: LayerNode, inner: bool = False) -> Iterator[str]:
    """The layers that bring together what gets one scale, with those that pass it on to a node."""
    chain = [node]
    while is_pass_through(inner_operation(chain[-1].layer)) and len(chain[-1].producers) == 1:
        chain.append(chain[-1].producers[0])
    joins = is_concat_like(inner_operation(chain[-1].layer))
    if joins or not inner:
        yield from (one.path for one in chain)
    for producer in chain[-1].producers if joins else ():
        yield from _joining(producer, inner=True)
