from __future__ import annotations

import keras
import numpy as np
import pytest

from tfgreen.errors import InvalidValueError
from tfgreen.recipes.measured_files import latencies_ms, to_lite


def test_integer_files_are_calibrated_and_timed():
    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2)])
    lite = to_lite(model, "int8", {"x": np.random.default_rng(0).normal(size=(8, 4)).astype("float32")})
    assert lite.size_bytes > 0 and {*latencies_ms({"a": lite}, 1, runs=3)} == {"a"}


def test_a_latency_that_depends_on_an_open_size_needs_samples():
    model = keras.Sequential([keras.Input((None, 4), name="x"), keras.layers.Dense(2)])
    lite = to_lite(model, "float32", None)
    with pytest.raises(InvalidValueError, match="size of input 'x', which is open. Pass calibration_data"):
        latencies_ms({0: lite}, 1)
    assert latencies_ms({0: lite}, 1, {"x": np.ones((2, 5, 4), "float32")}, runs=3)[0] > 0
