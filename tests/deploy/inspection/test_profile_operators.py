from __future__ import annotations

import importlib
import json

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests.deploy import cases
from tests.deploy.inspection import crashes
from tfgreen.deploy.inspection.profile_operators import OperatorProfile, OperatorTime, profile_operators
from tfgreen.errors import ConversionError, InvalidTypeError, InvalidValueError

module = importlib.import_module("tfgreen.deploy.inspection.profile_operators")

FILES = {
    "float16": lambda: cases.artifact("concat", "float16"),
    "int8-io": lambda: cases.artifact("residual", "int8-io"),
    "tokens": lambda: cases.artifact("attention", "float32"),
    "two inputs": lambda: cases.artifact("shared_layer", "float32"),
}


@pytest.mark.parametrize("name", FILES)
def test_operators_come_in_the_files_order_with_their_layers_and_shares(name):
    lite = FILES[name]()
    result = profile_operators(lite, runs=3, threads=2)
    assert (result.runs, result.threads) == (3, 2)
    found = [(row.operator, row.layers, row.tensor) for row in result.operators]
    assert found == [(row.operator, row.layers, row.tensor) for row in lite.audit.operators]
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
    profile = OperatorProfile(rows, 1, 50)
    assert repr(profile) == "<OperatorProfile: 3 operators, 40.0 us in sum>"
    assert profile._repr_html_().count("<tr>") == 5
    assert str(profile).splitlines() == [
        "operator  layers         us  share",
        "CONV_2D   conv + relu  30.0  75.0%",
        "ADD       (sum)        10.0  25.0%",
        "WHILE     (w)             ?      ?",
        "sum                    40.0",
        "WHILE (w) not timed: it runs another subgraph",
        "each operator alone, median of 50 runs, 1 thread",
    ]


def test_bad_input_is_refused():
    with pytest.raises(InvalidTypeError, match="lite: expected a LiteRTModel, received bytes"):
        profile_operators(b"TFL3")
    with pytest.raises(InvalidValueError, match="runs: expected an integer >= 1, received 0"):
        profile_operators(cases.artifact("functional", "float32"), runs=0)
    with pytest.raises(InvalidTypeError, match="threads: expected an integer"):
        profile_operators(cases.artifact("functional", "float32"), threads="2")


def test_an_operator_on_which_the_runtime_crashes_is_named_and_the_others_timed(monkeypatch):
    lite = cases.artifact("residual", "float32")
    monkeypatch.setattr(module, "measure", crashes.crash_on_the_first)
    first, *others = profile_operators(lite).operators
    assert first.median_us is None and first.reason == "LiteRT's runtime crashes on it (signal 6)"
    assert all(row.median_us == 1.0 for row in others)
    monkeypatch.setattr(module, "measure", crashes.crash_at_once)
    with pytest.raises(ConversionError, match="crashes on the model"):
        profile_operators(lite)


def test_an_open_size_takes_real_inputs():
    inputs = keras.Input((None, 4))
    lite = tg.convert(keras.Model(inputs, keras.layers.Conv1D(3, 5, name="valid")(inputs)))
    with pytest.raises(ConversionError, match="Sizes that the file leaves open were 1: pass x"):
        profile_operators(lite, runs=2)
    rows = profile_operators(lite, x=np.zeros((1, 9, 4), "float32"), runs=2).operators
    assert any(row.operator == "CONV_2D" and row.median_us for row in rows)
    with pytest.raises(ConversionError, match="pass x"):
        tg.benchmark(lite, runs=2)
    assert list(tg.benchmark(lite, x=np.zeros((2, 9, 4), "float32"), runs=2).shapes.values()) == [(1, 9, 4)]
