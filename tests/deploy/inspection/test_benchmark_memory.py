from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests.deploy import cases
from tfgreen.deploy.inspection.benchmark import peak_memory
from tfgreen.errors import ConversionError


def test_memory_is_that_of_the_weights_and_tensors_of_each_file():
    model = keras.Sequential([keras.Input((1024,)), keras.layers.Dense(2048), keras.layers.Dense(1024)])
    x = np.random.default_rng(0).random((16, 1024), np.float32)
    weights = 2 * 1024 * 2048
    files = {
        "float32": tg.convert(model),
        "int8": tg.convert(model, tg.ConvertConfig(quantization="int8", calibration_data=x)),
    }
    memory = {name: result.peak_memory_bytes for name, result in tg.benchmark(files, runs=2).items()}
    # The mapped file, and the weights once more as XNNPACK packs them.
    assert 4 * weights < memory["float32"] < 2.5 * 4 * weights
    assert weights < memory["int8"] < 2.5 * weights


def test_memory_of_a_file_that_cannot_run_is_an_error():
    class Damaged:
        content = b"TFL3"

    with pytest.raises(ConversionError, match="the memory of the model cannot be measured: ValueError"):
        peak_memory(Damaged())


def test_more_threads_are_passed_on_and_a_dynamic_dimension_has_the_size_1():
    inputs = keras.Input((None, 4))
    lite = tg.convert(keras.Model(inputs, keras.layers.Conv1D(3, 2, padding="same")(inputs)))
    assert peak_memory(lite, threads=2) >= 0
    with pytest.raises(ConversionError, match="num_threads"):
        peak_memory(cases.artifact("functional", "float32"), threads=0)
