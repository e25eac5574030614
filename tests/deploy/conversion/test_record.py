"""The record of a conversion, and what is read of a model before anything is done to it."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests.zoo import ZOO, sample
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.record import read
from tfgreen.errors import ConversionError, InvalidTypeError, InvalidValueError
from tfgreen.model.fingerprint import fingerprint


def int8(name, **options):
    model = ZOO[name]()
    return model, read(model, ConvertConfig(quantization="int8", calibration_data=sample(name, 16), **options))


@pytest.mark.parametrize("name", ["functional", "multi_io", "shared_layer", "attention", "subclassed"])
def test_the_samples_are_those_passed_in_the_order_of_the_inputs(name):
    model, conversion = int8(name)
    assert conversion.model is model and conversion.source == fingerprint(model) and not conversion.notes
    assert list(conversion.samples) == [item.name for item in conversion.spec.inputs]
    for item, passed in zip(conversion.spec.inputs, keras.tree.flatten(sample(name, 16)), strict=True):
        array = conversion.samples[item.name]
        assert array.shape[1:] == item.shape and array.dtype == item.dtype
        np.testing.assert_array_equal(array, passed)


def test_a_step_cannot_change_the_record_of_the_one_before():
    _, conversion = int8("functional")
    with pytest.raises(dataclasses.FrozenInstanceError):
        conversion.notes = ("other",)


def test_what_cannot_be_converted_is_refused_at_the_door():
    with pytest.raises(InvalidTypeError, match="model: expected a keras.Model"):
        read(keras.layers.Dense(2), ConvertConfig())
    with pytest.raises(InvalidValueError, match="input_dtype: expected 'float32' for a model with integer inputs"):
        int8("attention", input_dtype="int8")
    with pytest.raises(InvalidValueError, match=r"of input '.*': expected shape \('samples', 12\), received \(5, 4\)"):
        read(ZOO["functional"](), ConvertConfig(quantization="int8", calibration_data=np.zeros((5, 4))))


def test_errors_name_the_model_and_how_it_was_to_be_converted():
    conversion = read(ZOO["functional"](), ConvertConfig(quantization="int8"))
    missing = str(conversion.missing_samples())
    assert "samples of the inputs of model 'functional_net'" in missing and "calibration_data=x[:512]" in missing
    error = conversion.refused("it is odd.")
    assert isinstance(error, ConversionError)
    assert str(error) == "model 'functional_net' cannot be converted with quantization='int8': it is odd."
    assert "value: ['rnn']. Build" in str(conversion.writes_variable(["rnn"]))
    assert "its value. Build" in str(conversion.writes_variable())


@pytest.mark.parametrize("quantization", ["float32", "float16", "dynamic"])
def test_weights_that_are_no_numbers_are_noted(quantization):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
    assert not any("NaN" in note for note in tg.convert(model, quantization=quantization).notes)
    model.layers[0].kernel.assign(np.full((3, 2), np.nan))
    assert any("['out/kernel'] hold NaN" in note for note in tg.convert(model, quantization=quantization).notes)
