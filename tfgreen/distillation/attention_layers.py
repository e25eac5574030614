"""Attention layers of any class: what makes their queries, keys and values, and what they make of their scores."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from tfgreen.errors import invalid_state
from tfgreen.model.layer_calls import Around, call_name
from tfgreen.model.paths import sublayers
from tfgreen.typing import Tensors


def projections(layer: keras.Layer) -> dict[str, tuple[str, keras.Layer]]:
    """Names and layers that make the queries, keys and values of an attention layer; none if it is no such layer.

    Example:
        >>> attention = layers.MultiHeadAttention(2, 4)
        >>> attention.build((None, 5, 8), (None, 5, 8))
        >>> {part: name for part, (name, _) in projections(attention).items()}
        {'query': 'query_dense', 'key': 'key_dense', 'value': 'value_dense'}
        >>> projections(layers.Dense(3))
        {}
    """
    found: dict[str, tuple[str, keras.Layer]] = {}
    for part in ("query", "key", "value"):
        pattern = rf"w?{part[0]}({part[1:]})?(_.*)?"
        fitting = [(name, sub) for name, sub in sublayers(layer) if re.fullmatch(pattern, name.lstrip("_"))]
        if len(fitting) != 1:
            return {}
        found[part] = fitting[0]
    return found


def probabilities(layer: keras.Layer, keep: Callable[[Tensors], None]) -> tuple[tuple[keras.Layer, str], Around]:
    """What to listen to, so that ``keep`` gets what an attention layer makes of its scores, before any dropout."""
    if hasattr(layer, "_compute_attention") and hasattr(layer, "_masked_softmax"):

        def compute(of: keras.Layer, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
            twin: Any = object.__new__(type(of))  # shares the state of the layer
            twin.__dict__.update(vars(of))

            def softmax(*args: Tensors, **kwargs: Tensors) -> Tensors:
                result = of._masked_softmax(*args, **kwargs)
                keep(result)
                return result

            # Keras computes all in one function unless there is dropout; the rate of its dropout layer remains.
            rate = "_dropout" if hasattr(of, "_dropout") else "dropout"
            twin.__dict__ |= {"_masked_softmax": softmax, rate: 1.0, "_flash_attention": False}
            return type(of)._compute_attention(twin, *args, **kwargs)

        return (layer, "_compute_attention"), compute
    found = [sub for _, sub in sublayers(layer) if isinstance(sub, layers.Softmax)]
    if len(found) != 1:
        raise invalid_state(
            f"{type(layer).__name__} shows no probabilities: it calls no layer Softmax.",
            "Compare its queries, keys and values instead: tg.AttentionRelationDistillation.",
        )

    def around(softmax: keras.Layer, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
        result = call(*args, **kwargs)
        keep(result)
        return result

    return (found[0], call_name(found[0])), around
