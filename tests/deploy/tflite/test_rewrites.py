from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers, ops

import tfgreen as tg
from tests.quantized import error_in_scales, in_int8, normal, quantized
from tfgreen.deploy.tflite.flatbuffer import constant, parse
from tfgreen.deploy.tflite.rewrites import drop_detours, drop_unused_tensors
from tfgreen.deploy.tflite.writing import write


def file_of(function) -> tg.LiteRTModel:
    inputs = keras.Input((4,))
    return tg.convert(keras.Model(inputs, function(inputs)))


def test_a_detour_by_float64_is_dropped():
    lite = file_of(lambda x: ops.cast(ops.cast(ops.abs(x), "float64"), "float32") * 2.0)
    assert "CAST" not in lite.operators
    x = normal(4)
    np.testing.assert_array_equal(lite.predict(x), np.abs(x) * 2)


@pytest.mark.parametrize("dtype", ["int32", "float16"])
def test_casts_that_change_numbers_stay(dtype):
    lite = file_of(lambda x: ops.cast(ops.cast(x * 3.0, dtype), "float32") + 1.0)
    assert lite.operators["CAST"] == 2 and drop_detours(lite.parsed) == 0


class Unit(layers.Layer):
    """Keras's operation in a layer of the user's own."""

    def call(self, x):
        return ops.normalize(x, axis=-1)


@pytest.mark.parametrize("quantization", ["float32", "dynamic"])
@pytest.mark.parametrize(
    "unit", [layers.UnitNormalization(), Unit(), lambda x: ops.normalize(x, axis=-1), layers.Dot(-1, normalize=True)]
)
def test_a_vector_of_length_0_stays_0_where_vectors_get_length_1(unit, quantization):
    """XNNPACK's inverse square root of 0 is NaN."""
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, unit([inputs, inputs]) if isinstance(unit, layers.Dot) else unit(inputs))
    x = normal(3, 4)
    x[:, 0], x[:, 1] = 0, x[:, 1] * 1e-6
    lite = tg.convert(model, quantization=quantization)
    assert lite.operators["MAXIMUM"] == lite.operators["RSQRT"] and "MINIMUM" not in lite.operators
    np.testing.assert_allclose(lite.predict(x), model.predict(x, verbose=0), rtol=1e-5)


class Norm(layers.Layer):
    """Written by hand, as many are."""

    def call(self, x):
        centred = x - ops.mean(x, -1, keepdims=True)
        return centred / ops.sqrt(ops.mean(centred * centred, -1, keepdims=True) + 1e-6)


NORMS = {
    "layer": layers.LayerNormalization,
    "group": lambda: layers.GroupNormalization(2),
    "RMS": layers.RMSNormalization,
    "unit": layers.UnitNormalization,
    "own": Norm,
}


@pytest.mark.parametrize("kind", NORMS)
def test_a_norm_between_integers_averages_floats(kind):
    """The converter gave the first mean the range of the norm's input: rounded to it, it was scales off."""
    inputs = keras.Input((6, 6, 4))
    x = NORMS[kind]()(layers.Conv2D(8, 3)(inputs))
    model, data = keras.Model(inputs, layers.Conv2D(4, 1)(x)), normal(6, 6, 4)
    trained = quantized(model, data)
    lite = in_int8(trained)
    assert "CAST" not in lite.operators and "MEAN" in lite.float_operators or kind == "unit"
    assert error_in_scales(trained, lite, data) < 0.01


def test_both_values_of_one_hot_are_in_the_scale_of_its_output():
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(ops.one_hot(inputs, 5))))
    lite = tg.convert(model, quantization="int8", calibration_data=np.arange(32).reshape(8, 4) % 5)
    (operator,) = [one for one in lite.parsed.subgraphs[0].operators if len(one.inputs) == 4]
    on, off = (constant(lite.parsed, lite.parsed.subgraphs[0].tensors[index]) for index in operator.inputs[2:])
    assert lite.float_operators == [] and (int(on), int(off)) == (127, -128)


def test_a_bound_beyond_the_scale_of_what_it_bounds_is_stored_saturated():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,))
    model = keras.Model(inputs, layers.Dense(4)(ops.minimum(layers.Dense(8)(inputs), 1e12)))
    x = normal(16)
    lite = tg.convert(model, quantization="int16x8", calibration_data=x)
    assert lite.quantization == "int16x8" and not lite.notes and not lite.float_operators
    assert np.abs(lite.predict(x) - model.predict(x, verbose=0)).mean() < 0.01
    graph = lite.parsed.subgraphs[0]
    (bounded,) = [op for op, row in zip(graph.operators, lite.audit.operators) if row.operator == "MINIMUM"]
    bounds = [constant(lite.parsed, graph.tensors[i]) for i in bounded.inputs]
    assert [int(bound.max()) for bound in bounds if bound is not None] == [32767]


def test_norms_of_two_tensors_stay_in_float_between_16_bits():
    keras.utils.set_random_seed(0)
    left, right = keras.Input((16,), name="left"), keras.Input((16,), name="right")
    model = keras.Model([left, right], layers.Dot(-1, normalize=True)([layers.Dense(8)(left), layers.Dense(8)(right)]))
    x = [normal(16), normal(16, seed=1)]
    lite = tg.convert(model, quantization="int16x8", calibration_data=x)
    assert lite.quantization == "int16x8" and not [note for note in lite.notes if "far from" in note]
    assert "RSQRT" in lite.float_operators and "FULLY_CONNECTED" not in lite.float_operators
    assert np.abs(lite.predict(x) - model.predict(x, verbose=0)).mean() < 0.01


def test_tensors_that_nothing_uses_are_left_out_and_the_others_compute_as_before():
    lite = file_of(lambda x: ops.relu(layers.Dense(3)(x)))
    file = parse(lite.content, "file")
    graph = file.subgraphs[0]
    graph.tensors.insert(0, schema.TensorT(np.array([1, 4], np.int32), name=b"unused", hasRank=True))
    for holder in (graph, *graph.operators):
        for side in ("inputs", "outputs"):
            setattr(holder, side, np.array([int(i) + (int(i) >= 0) for i in getattr(holder, side)], np.int32))
    for entry in (*file.signatureDefs[0].inputs, *file.signatureDefs[0].outputs):
        entry.tensorIndex += 1
    assert drop_unused_tensors(file) == 1 and drop_unused_tensors(file) == 0
    x = normal(4)
    np.testing.assert_array_equal(tg.LiteRTModel(write(file)).predict(x), lite.predict(x))
