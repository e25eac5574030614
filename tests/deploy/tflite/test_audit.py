from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

from tests.deploy import cases
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import convert
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.model.paths import replaceable_layers


class Wave(layers.Layer):
    """LiteRT has no sine in integers."""

    def call(self, x):
        return keras.ops.sin(x)


@pytest.mark.parametrize("mode", ["float32", "int8"])
@pytest.mark.parametrize("name", ["sequential", "functional", "residual", "concat", "multi_io", "separable", "nested"])
def test_every_operator_is_of_a_layer_and_every_layer_that_computes_has_one(name, mode):
    model, lite = cases.model(name), cases.artifact(name, mode)
    paths = dict(replaceable_layers(model))
    for row in lite.audit.operators:
        assert set(row.layers) <= set(paths)
        assert row.layers or row.operator in ("QUANTIZE", "DEQUANTIZE")
    named = {layer for row in lite.audit.operators for layer in row.layers}
    with_kernel = {path for path, layer in paths.items() if hasattr(layer, "kernel")}
    assert with_kernel and not {path for path in with_kernel if path not in named and "batch" not in path}


def test_a_fused_operator_names_its_layers_in_order_and_a_shared_layer_each_call():
    shared, inputs = layers.Dense(4, name="shared"), keras.Input((4,))
    x = layers.ReLU(name="end")(shared(layers.Activation("tanh", name="mid")(shared(inputs))))
    rows = convert(keras.Model(inputs, layers.Dense(2, name="out")(x))).audit.operators
    assert [(row.operator, row.layers) for row in rows] == [
        ("FULLY_CONNECTED", ("shared",)), ("TANH", ("mid",)), ("FULLY_CONNECTED", ("shared", "end")),
        ("FULLY_CONNECTED", ("out",)),
    ]


def test_nested_paths_and_tensor_names_are_those_of_keras():
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, layers.Dense(3, name="dense")(inner_input), name="inner")
    inputs = keras.Input((4,))
    lite = convert(keras.Model(inputs, layers.Dense(2, name="out")(inner(inputs))))
    assert [row.layers for row in lite.audit.operators] == [("inner/dense",), ("out",)]
    assert "inner/dense/" in lite.audit.operators[0].tensor
    assert not any("call." in tensor.name.decode() for tensor in lite.parsed.subgraphs[0].tensors)


def test_dtypes_and_what_stays_float():
    inputs = keras.Input((6,))
    x = Wave(name="wave")(layers.Dense(4, bias_initializer="ones", name="dense")(inputs))
    data = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    config = ConvertConfig(quantization="int8", calibration_data=data)
    audit = convert(keras.Model(inputs, layers.Dense(2, name="out")(x)), config).audit
    assert audit.float_layers == ("wave",)
    dense = next(row for row in audit.operators if row.operator == "FULLY_CONNECTED")
    assert dense.inputs == ("int8", "int8", "int32") and dense.outputs == ("int8",) and not dense.in_float
    assert "wave" in str(audit) and "FULLY_CONNECTED" in str(audit)
    assert json.loads(json.dumps(audit.to_dict()))["operators"][1]["layers"] == ["dense"]


def test_a_file_of_another_hand_has_operators_without_layers():
    import tensorflow as tf

    content = tf.lite.TFLiteConverter.from_keras_model(cases.model("functional")).convert()
    audit = LiteRTModel(content).audit
    assert [row.layers for row in audit.operators] == [()] * len(audit.operators) and len(audit.operators) == 3
