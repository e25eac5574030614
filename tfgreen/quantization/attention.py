"""Attention as LiteRT runs it in integers: four kernels, two products of tensors, and a softmax between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import layers, ops

from tfgreen.transforms.exporting import is_exporting, isolated
from tfgreen.typing import Tensor

# The tensors that are rounded inside.
QUERY, SCALED_QUERY, KEY, VALUE, SCORES, PROBABILITIES, ATTENDED = range(7)


def run_attention(
    layer: layers.MultiHeadAttention | layers.GroupQueryAttention,
    quantize: Callable[[int, Tensor], Tensor],
    args: tuple,
    kwargs: Mapping[str, Any],
) -> Tensor:
    """Call an attention layer whose tensors are rounded on the way.

    The call is Keras's own, of a second object that shares the state of the layer: masks, gates and dropout do what
    they do there. Masked scores go through the softmax in float32: of the values of an integer, none is so
    far below all others that nothing of it is left.
    """
    twin: Any = object.__new__(type(layer))
    twin.__dict__.update(layer.__dict__)
    scale = "_inverse_sqrt_key_dim" if hasattr(layer, "_inverse_sqrt_key_dim") else "_inverse_sqrt_head_dim"
    rate = "_dropout" if hasattr(layer, "_dropout") else "dropout"
    query, key, value, output = layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense

    def softmax(scores: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        scores = quantize(SCORES, scores)
        if attention_mask is not None and is_exporting():
            scores = isolated(scores)
        if len(scores.shape) == 4 and not getattr(layer, rate) and not kwargs.get("return_attention_scores"):
            return quantize(PROBABILITIES, _masked_softmax(scores, attention_mask))
        return quantize(PROBABILITIES, layer._masked_softmax(scores, attention_mask))

    twin.__dict__ |= {
        "_query_dense": lambda x: quantize(SCALED_QUERY, quantize(QUERY, query(x)) * getattr(layer, scale)),
        "_key_dense": lambda x: quantize(KEY, key(x)),
        "_value_dense": lambda x: quantize(VALUE, value(x)),
        "_masked_softmax": softmax,
        "_output_dense": lambda x: output(quantize(ATTENDED, x)),
        scale: 1.0,
        # Keras computes scores and softmax in one function unless there is dropout; the rate of its layer remains.
        rate: 1.0,
        "_flash_attention": False,
    }
    return twin(*args, **kwargs)


def _masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """As ``ops.dot_product_attention``: a query whose keys are all masked attends to all alike, where Keras's layer
    ``Softmax`` makes zeros."""
    if mask is not None:
        for _ in range(len(scores.shape) - len(mask.shape)):
            mask = ops.expand_dims(mask, -3)
        scores = ops.where(ops.cast(mask, "bool"), scores, -0.7 * float(np.finfo(np.float32).max))
    return ops.softmax(scores, axis=-1)
