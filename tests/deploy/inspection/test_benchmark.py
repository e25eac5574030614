from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import zoo
from tests.deploy import cases
from tfgreen.deploy.convert import convert
from tfgreen.deploy.inspection.benchmark import BenchmarkResults, benchmark, random_input, slower_notes, summarize
from tfgreen.deploy.tflite.contents import TensorInfo
from tfgreen.errors import InvalidTypeError, InvalidValueError


@pytest.mark.parametrize("name", zoo.mostly_slow())
def test_every_zoo_model_is_timed(name):
    result = benchmark(cases.artifact(name, "int8-io"), runs=5, warmup=1)
    assert 0 < result.min_ms <= result.median_ms <= result.p90_ms and result.spread_ms >= 0
    assert (result.runs, result.warmup, result.threads) == (5, 1, 1)
    assert result.peak_memory_bytes > 0


def test_several_models_run_in_turn_under_their_names():
    results = benchmark(
        {"a": cases.artifact("functional", "float32"), "b": cases.artifact("lstm", "int8")}, runs=20, threads=2
    )
    assert list(results) == ["a", "b"] and results["a"].threads == 2
    assert str(results).splitlines()[0].split() == ["model", "median", "ms", "p90", "min", "spread", "MB", "inputs"]


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=50))
def test_the_summary_is_numpys(nanoseconds):
    result = summarize(nanoseconds, threads=3, warmup=2, memory=7)
    ms = np.array(nanoseconds) / 1e6
    assert result.median_ms == pytest.approx(np.median(ms)) and result.min_ms == pytest.approx(ms.min())
    assert result.p90_ms == pytest.approx(np.percentile(ms, 90))
    assert result.spread_ms == pytest.approx(np.percentile(ms, 75) - np.percentile(ms, 25))
    assert json.loads(json.dumps(result.to_dict())) == {**result.to_dict(), "source": "measured"}
    assert "3 threads" in str(result)


def test_a_note_says_which_quantized_model_is_slower_than_the_fastest_float_one():
    quantizations = {"f32": "float32", "f16": "float16", "dyn": "dynamic", "int": "int8", "same": "int8"}
    times = {"f32": 2.0, "f16": 2.2, "dyn": 2.6, "int": 1.0, "same": 2.1}
    results = {name: summarize([int(ms * 1e6)], threads=1, warmup=0, memory=0) for name, ms in times.items()}
    notes = slower_notes(results, quantizations)
    assert notes == (
        "'dyn' (dynamic) is slower than 'f32' (float32): 1.30 times its median. tg.profile_operators shows where.",
    )
    assert slower_notes({"dyn": results["dyn"], "int": results["int"]}, quantizations) == ()
    found = BenchmarkResults(results, notes)
    lines = str(found).splitlines()
    assert lines[1].split() == ["f32", "2", "2", "2", "0", "0.00", "inputs"] and lines[-1] == notes[0]
    assert repr(found).startswith("<BenchmarkResults: f32 2 ms, f16 2.2 ms") and found._repr_html_().count("<tr>") == 6
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert found.to_dict()["results"]["f16"]["median_ms"] == 2.2 and len(found) == 5


def test_the_notes_are_those_of_the_measured_medians():
    files = {"small": cases.artifact("functional", "float32"), "large": cases.artifact("lstm", "int8")}
    found = benchmark(files, runs=20)
    assert found.notes == slower_notes(found.results, {"small": "float32", "large": "int8"})
    assert benchmark({"large": cases.artifact("lstm", "float32"), "small": files["small"]}, runs=5).notes == ()


def test_random_inputs_have_the_type_and_range_of_the_tensor_and_are_seeded():
    def make(dtype, scale=None, zero=None, seed=0):
        return random_input(TensorInfo("x", (1, 500), dtype, scale, zero, 0), (1, 500), np.random.default_rng(seed))

    floats, tokens, stored = make("float32"), make("int32"), make("int8", 0.1, 3)
    assert floats.dtype == np.float32 and 0 <= floats.min() < floats.max() < 1
    assert tokens.dtype == np.int32 and set(tokens.ravel()) == {0, 1}
    assert stored.dtype == np.int8 and stored.min() < -120 and stored.max() > 120
    np.testing.assert_array_equal(floats, make("float32"))
    assert (floats != make("float32", seed=1)).any()


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"threads": 0}, InvalidValueError, "threads: expected an integer >= 1 and <= 1024, received 0"),
        ({"runs": 0}, InvalidValueError, "runs: expected an integer >= 1"),
        ({"warmup": -1}, InvalidValueError, "warmup: expected an integer >= 0"),
        ({"runs": 2.5}, InvalidValueError, "runs: expected an integer >= 1, received 2.5"),
        ({"threads": True}, InvalidTypeError, "threads: expected an integer"),
    ],
)
def test_bad_counts_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        benchmark(cases.artifact("functional", "float32"), **arguments)


def test_bad_models_are_refused():
    with pytest.raises(InvalidValueError, match="there is no model in it"):
        benchmark({})
    with pytest.raises(InvalidTypeError, match=r"lite\['a'\]: expected a LiteRTModel"):
        benchmark({"a": b"TFL3"})
    with pytest.raises(InvalidTypeError, match="lite: expected a LiteRTModel"):
        benchmark(b"TFL3")


def test_real_inputs_and_the_shapes_that_ran():
    model = keras.Sequential([keras.Input((None, 4), name="x"), keras.layers.GlobalAveragePooling1D()])
    lite = convert(model)
    random = benchmark(lite, runs=2, warmup=0)
    assert random.shapes == {"x": (1, 1, 4)} and "inputs x 1x1x4; open sizes ran as 1: pass x=real" in str(random)
    x = np.random.default_rng(0).normal(size=(3, 5000, 4)).astype("float32")
    for data in (x, [x], {"x": x}, iter([(x, np.zeros(3))])):
        real = benchmark({"one": lite, "two": lite}, x=data, runs=2, warmup=0)
        assert real["two"].shapes == {"x": (1, 5000, 4)} and "open sizes" not in str(real)
        assert "x 1x5000x4" in str(real) and real.to_dict()
    with pytest.raises(ValueError, match="x of input 'x': expected shape"):
        benchmark(lite, x=x[0], runs=1)
