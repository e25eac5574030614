from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo
from tests.deploy import cases
from tfgreen.deploy.inspection.profile_operators import OperatorProfile, OperatorTime, profile_operators
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.cut_operator import cut_operator, reason_not_to_cut
from tfgreen.errors import InvalidTypeError, InvalidValueError


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
    """An interpreter of the whole file that has run on random values and kept every tensor."""
    rng = np.random.default_rng(1)
    interpreter = lite.new_interpreter(keep_tensors=True)
    lite.feed(
        interpreter,
        {i.name: rng.integers(0, 9, i.shape) if i.dtype == "int32" else rng.normal(size=i.shape) for i in lite.inputs},
    )
    interpreter.invoke()
    return interpreter


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_computes_what_the_whole_file_computes_there(name):
    lite = FILES[name]()
    weights = {"float16": "float16", "dynamic": "int8", "int4": "int4"}.get(name)
    assert weights is None or any(weights in row.inputs for row in lite.audit.operators)
    whole = _run(lite)
    cut = 0
    for index, operator in enumerate(lite.parsed.subgraphs[0].operators):
        if reason_not_to_cut(lite.parsed, operator, lite.content):
            continue
        content, sources = cut_operator(lite.parsed, index, lite.content, {})
        alone = LiteRTModel(content).new_interpreter(keep_tensors=True)
        for detail, source in zip(alone.get_input_details(), sources, strict=True):
            alone.set_tensor(detail["index"], whole.get_tensor(source))
        alone.invoke()
        for detail, made in zip(alone.get_output_details(), operator.outputs, strict=True):
            np.testing.assert_array_equal(alone.get_tensor(detail["index"]), whole.get_tensor(int(made)))
        cut += 1
    timed = len(lite.audit.operators) - lite.operators.get("DEQUANTIZE", 0) * (name == "float16")
    assert cut == timed > 0


@pytest.mark.parametrize("name", ["float16", "int8-io", "two inputs", "tokens"])
def test_operators_come_in_the_files_order_with_their_layers_and_shares(name):
    lite = FILES[name]()
    result = profile_operators(lite, runs=3, threads=2)
    assert (result.runs, result.threads) == (3, 2)
    told = [(row.operator, row.layers, row.tensor) for row in result.operators]
    assert told == [(row.operator, row.layers, row.tensor) for row in lite.audit.operators]
    shares = [row.share for row in result.operators if row.share is not None]
    assert sum(shares) == pytest.approx(1) and min(shares) > 0
    for row in result.operators:
        unpacks = name == "float16" and row.operator == "DEQUANTIZE"
        assert bool(row.reason) == unpacks == (row.median_us is None) == (row.share is None)
    assert json.loads(json.dumps(result.to_dict()))["total_us"] == result.total_us > 0


def test_the_operator_that_does_most_takes_most():
    inputs = keras.Input((32, 32, 16))
    x = keras.layers.Conv2D(64, 3, name="large")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2, name="small")(keras.layers.GlobalMaxPooling2D()(x)))
    shares = {row.layers[-1]: row.share for row in profile_operators(tg.convert(model), runs=10).operators}
    assert shares["large"] > 10 * shares["small"]


def test_a_loop_is_not_timed_and_says_why():
    result = profile_operators(cases.artifact("lstm", "float32"), runs=2)
    loops = [row for row in result.operators if row.operator == "WHILE"]
    assert loops and all(row.reason == "it runs another subgraph" for row in loops)
    assert any(row.median_us for row in result.operators)
    assert "not timed: it runs another subgraph" in str(result)


def test_a_dynamic_dimension_has_the_size_1():
    inputs = keras.Input((None, 4))
    lite = tg.convert(keras.Model(inputs, keras.layers.Conv1D(3, 2, padding="same")(inputs)))
    rows = profile_operators(lite, runs=2).operators
    assert [row.operator for row in rows] == [row.operator for row in lite.audit.operators]
    assert all(row.median_us for row in rows if not row.reason)


def test_the_table_names_layers_and_what_was_not_timed():
    rows = (
        OperatorTime("CONV_2D", ("conv", "relu"), "t", 30.0, 0.75),
        OperatorTime("ADD", (), "sum", 10.0, 0.25),
        OperatorTime("WHILE", (), "w", None, None, "it runs another subgraph"),
    )
    assert str(OperatorProfile(rows, 1, 50)).splitlines() == [
        "operator    us  share  layers",
        "CONV_2D   30.0  75.0%  conv + relu",
        "ADD       10.0  25.0%  (sum)",
        "WHILE        ?      ?  (w)",
        "sum       40.0",
        "WHILE (w) not timed: it runs another subgraph",
        "each operator alone, median of 50 runs, 1 thread",
    ]


def test_bad_input_is_refused():
    with pytest.raises(InvalidTypeError, match="lite: expected a LiteRTModel, received bytes"):
        profile_operators(b"TFL3")
    with pytest.raises(InvalidValueError, match="runs: expected 1 or more, received 0"):
        profile_operators(cases.artifact("functional", "float32"), runs=0)
    with pytest.raises(InvalidTypeError, match="threads: expected an integer"):
        profile_operators(cases.artifact("functional", "float32"), threads=1.5)
