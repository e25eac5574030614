from __future__ import annotations

import keras
import pytest

from tests import zoo
from tfgreen.model.call_spec import symbolic_inputs
from tfgreen.model.layer_calls import trace_calls


def test_trace_sees_every_call_with_its_shapes():
    model = zoo.shared_layer()
    inputs, named = symbolic_inputs(model)
    calls = trace_calls(model, *inputs, **named)
    assert [(type(c.layer).__name__, c.output, c.depth) for c in calls] == [
        ("Functional", (1, 4), 0),
        ("Dense", (1, 8), 1),
        ("Dense", (1, 8), 1),
        ("Concatenate", (1, 16), 1),
        ("Dense", (1, 4), 1),
    ]
    assert calls[3].inputs == ((1, 8), (1, 8))


def test_tracing_leaves_keras_as_it_was():
    before = keras.Layer.__call__
    model = zoo.functional()
    inputs, named = symbolic_inputs(model)
    trace_calls(model, *inputs, **named)
    assert keras.Layer.__call__ is before
    with pytest.raises(Exception, match="shape"):
        trace_calls(model, keras.KerasTensor((1, 5)))
    assert keras.Layer.__call__ is before
