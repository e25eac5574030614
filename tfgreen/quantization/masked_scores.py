"""What masks add to scores before a softmax, which no range of integers can hold beside them."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from tfgreen.model.call_spec import CallSpec, call_model
from tfgreen.model.graph import LayerGraph
from tfgreen.model.internals import is_container
from tfgreen.model.layer_calls import Around, around_calls, every_operation
from tfgreen.quantization.op_classes import inner_operation, operation_name
from tfgreen.typing import Tensors

NEVER = -9e3  # a score that a mask makes, at most, added to another one: -1e4, -1e9 and -3e38 are usual
_GAP = 0.01  # of it: all other scores are nearer to 0


def masked_operations(model: keras.Model, spec: CallSpec, samples: Mapping[str, np.ndarray]) -> set[str]:
    """The paths of the operations of a graph with a softmax, or with an exponential as it is written out, whose outputs
    hold -1e9 or the like on the samples, with nothing between that and usual numbers, and of the softmax that reads
    them. In float32 they tell scores apart.

    Example:
        >>> from tfgreen.model.call_spec import read_call_spec
        >>> x = keras.Input((4,), name="x")
        >>> masked = keras.layers.Lambda(lambda t: ops.where(t > 0, t, -1e9), name="masked")(x)
        >>> model = keras.Model(x, ops.softmax(masked))
        >>> found = masked_operations(model, read_call_spec(model), {"x": np.eye(4, dtype="float32")})
        >>> sorted(name.rstrip("_0123456789") for name in found)
        ['masked', 'softmax']
    """
    nodes = LayerGraph(model).nodes if is_container(model) else ()
    if not any(_tells_apart(inner_operation(node.layer)) for node in nodes):
        return set()
    found = set[int]()

    def around(operation: keras.Operation, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
        outputs = call(*args, **kwargs)
        if any(_holds_masks(ops.convert_to_numpy(x)) for x in keras.tree.flatten(outputs) if ops.is_tensor(x)):
            found.add(id(operation))
        return outputs

    with around_calls(every_operation(model), around):
        call_model(model, spec, samples)
    masked = {node for node in nodes if id(node.layer) in found}
    softmaxes = (node for node in nodes if _tells_apart(inner_operation(node.layer)))
    return {node.path for node in (*masked, *(node for node in softmaxes if not masked.isdisjoint(node.producers)))}


def _tells_apart(layer: keras.Operation) -> bool:
    """Whether an operation is a softmax, or the exponential of one that is written out."""
    if isinstance(layer, keras.layers.Activation):  # of a dense layer it reads what that layer makes, not scores
        return layer.activation is keras.activations.softmax
    return isinstance(layer, keras.layers.Softmax) or operation_name(layer) in ("Softmax", "LogSoftmax", "Exp")


def _holds_masks(values: np.ndarray) -> bool:
    never = values <= NEVER if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    return bool(never.any() and not np.any(values[~never] < _GAP * values[never].max()))
