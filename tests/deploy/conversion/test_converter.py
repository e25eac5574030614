"""TensorFlow's converter, in this process and in one of its own: the same file, and its reason where it refuses."""

from __future__ import annotations

import logging
import threading
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from tests.zoo import ZOO, sample, slow
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.converter import RESULT, ConverterSettings, errors_only, run_converter, run_in_worker
from tfgreen.deploy.conversion.export import export
from tfgreen.deploy.conversion.record import read
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.errors import ConversionError


def exported(model, folder, data=None):
    mode = "float32" if data is None else "int8"
    return export(read(model, ConvertConfig(quantization=mode, calibration_data=data)), folder)


def test_ranges_of_several_inputs_are_those_of_their_samples_and_the_filters_stay(tmp_path):
    sizes = [1.0 + i for i in range(12)]  # two digits: no order of names is that of the numbers
    inputs = [keras.Input((4,), name=f"x{i}") for i in range(12)]
    model = keras.Model(inputs, layers.Concatenate()([layers.Dense(2)(x) for x in inputs]))
    data = [np.linspace(-size, size, 32, dtype="float32").reshape(8, 4) for size in sizes]
    conversion, before = exported(model, tmp_path, data), list(warnings.filters)
    run_converter(tmp_path, ConverterSettings("int8", "int8"), list(conversion.samples.values()))
    assert warnings.filters == before
    lite = LiteRTModel((tmp_path / RESULT).read_bytes())
    found = {tensor.name: tensor.scale for tensor in lite.inputs}
    for i, size in enumerate(sizes):
        assert found[f"input_{i}"] == pytest.approx(2 * size / 255, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multi_io", *slow("functional")])
def test_a_process_of_its_own_makes_the_same_file(name, tmp_path):
    model = ZOO[name]()
    conversion = exported(model, tmp_path, sample(name, 16))
    files = []
    for run in (run_converter, run_in_worker):
        run(tmp_path, ConverterSettings("int8", output_dtype="int8"), list(conversion.samples.values()))
        files.append((tmp_path / RESULT).read_bytes())
        (tmp_path / RESULT).unlink()
    assert files[0] == files[1] and LiteRTModel(files[0]).quantization == "int8"


def test_the_logger_of_tensorflow_keeps_its_errors_and_what_other_threads_say(caplog):
    logger = logging.getLogger("tensorflow")
    filters = list(logger.filters)
    with caplog.at_level(logging.INFO, "tensorflow"), errors_only():
        caplog.clear()
        logger.addHandler(caplog.handler)
        logger.info("mine")
        logger.error("wrong")
        other = threading.Thread(target=lambda: logger.info("another's"))
        other.start()
        other.join()
        logger.removeHandler(caplog.handler)
    assert {record.message for record in caplog.records} == {"wrong", "another's"} and logger.filters == filters


@pytest.mark.slow
@pytest.mark.parametrize("run", [run_converter, run_in_worker])
def test_its_reason_is_in_the_error(run, tmp_path):
    inputs = keras.Input((4, 4))
    exported(keras.Model(inputs, keras.ops.linalg.cholesky(inputs)), tmp_path)
    with pytest.raises(ConversionError, match="TF Select ops: Cholesky"):
        run(tmp_path, ConverterSettings("float32"), None)
    assert not (tmp_path / RESULT).exists()


@pytest.mark.slow
def test_a_crash_is_an_error_that_says_how_the_process_ended(tmp_path):
    message = "(?s)TensorFlow's converter crashed: its process ended with 1.*end of its log:.*ValueError: Object arrays"
    with pytest.raises(ConversionError, match=message) as info:
        run_in_worker(tmp_path, ConverterSettings("float32"), [np.array([object()])])  # cannot be read without pickle
    assert "oneDNN" not in str(info.value)
