from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo
from tests.deploy import cases
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.cut_operator import cut_operator, reason_not_to_cut
from tfgreen.deploy.tflite.interpreter import run_all
from tfgreen.deploy.tflite.writing import write


def _dynamic() -> LiteRTModel:
    inputs = keras.Input((32,))  # the converter quantizes weights from 1024 elements on
    model = keras.Model(inputs, keras.layers.Dense(64, activation="relu")(inputs))
    return tg.convert(model, tg.ConvertConfig(quantization="dynamic"))


def _int4() -> LiteRTModel:
    config = tg.QuantizeConfig(calibration_data=zoo.sample("residual"), weight_bits=4)
    return tg.convert(tg.quantize(zoo.residual(), config), tg.ConvertConfig(quantization="int4"))


def _unrolled() -> LiteRTModel:
    return tg.convert(keras.Sequential([keras.Input((3, 4)), keras.layers.GRU(4, unroll=True)]))


FILES = {
    "float32": lambda: cases.artifact("separable", "float32"),
    "float16": lambda: cases.artifact("concat", "float16"),
    "int8": lambda: cases.artifact("multi_io", "int8"),
    "int8-io": lambda: cases.artifact("residual", "int8-io"),
    "dynamic": _dynamic,
    "int4": _int4,
    "tokens": lambda: cases.artifact("attention", "float32"),
    "two inputs": lambda: cases.artifact("shared_layer", "float32"),
    "unrolled": _unrolled,
}


def _run(lite: LiteRTModel):
    """An interpreter of the whole file that has run on random values and holds every tensor."""
    rng = np.random.default_rng(1)
    interpreter = lite.new_interpreter(keep_tensors=True)
    inputs = lite.inputs
    values = {i.name: rng.integers(0, 9, i.shape) if i.dtype == "int32" else rng.normal(size=i.shape) for i in inputs}
    run_all(interpreter, inputs, lite.outputs, values)
    return interpreter


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_computes_what_the_whole_file_computes_there(name):
    lite = FILES[name]()
    weights = {"float16": "float16", "dynamic": "int8", "int4": "int4"}.get(name)
    assert weights is None or any(weights in row.inputs for row in lite.audit.operators)
    whole = _run(lite)
    cut = 0
    for index, operator in enumerate(lite.parsed.subgraphs[0].operators):
        if reason_not_to_cut(lite.parsed, operator):
            continue
        content, sources = cut_operator(lite.parsed, index, {})
        alone = LiteRTModel(content).new_interpreter(keep_tensors=True)
        for detail, source in zip(alone.get_input_details(), sources, strict=True):
            alone.set_tensor(detail["index"], whole.get_tensor(source))
        alone.invoke()
        for detail, output in zip(alone.get_output_details(), operator.outputs, strict=True):
            np.testing.assert_array_equal(alone.get_tensor(detail["index"]), whole.get_tensor(int(output)))
        cut += 1
    timed = len(lite.audit.operators) - lite.operators.get("DEQUANTIZE", 0) * (name == "float16")
    assert cut == timed > 0


def test_the_model_is_not_changed_and_sizes_left_open_are_those_given():
    inputs = keras.Input((None, 4))
    lite = tg.convert(keras.Model(inputs, keras.layers.Conv1D(3, 2, padding="same")(inputs)))
    before = write(lite.parsed)
    index = [row.operator for row in lite.audit.operators].index("CONV_2D")
    source = int(lite.parsed.subgraphs[0].operators[index].inputs[0])
    content, sources = cut_operator(lite.parsed, index, {source: (1, 1, 5, 4)})
    assert write(lite.parsed) == before and sources == [source]
    alone = LiteRTModel(content)
    assert alone.operators == {"CONV_2D": 1} and alone.inputs[0].shape == (1, 1, 5, 4)


def test_what_cannot_run_alone_has_a_reason():
    def reasons(lite):
        operators = lite.parsed.subgraphs[0].operators
        names = [row.operator for row in lite.audit.operators]
        return {name: reason_not_to_cut(lite.parsed, operator) for name, operator in zip(names, operators)}

    assert reasons(cases.artifact("lstm", "float32"))["WHILE"] == "it runs another subgraph"
    half = reasons(cases.artifact("concat", "float16"))
    assert half["DEQUANTIZE"] == "it unpacks constant weights, which LiteRT does once" and half["CONV_2D"] == ""
    assert not any(reasons(cases.artifact("multi_io", "int8")).values())
