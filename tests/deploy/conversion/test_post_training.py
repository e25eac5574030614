"""Ranges that TensorFlow's converter has no setting for: where they are placed, and where the record stays as it is."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.zoo import ZOO, sample
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.post_training import place_ranges
from tfgreen.deploy.conversion.record import read
from tfgreen.errors import InvalidValueError
from tfgreen.techniques.quantize import is_quantized


def placed(model, data, **options):
    config = {"quantization": "int8", "calibration_data": data, **options}
    return place_ranges(read(model, ConvertConfig(**config)))


@pytest.mark.parametrize("name", ["functional", "residual", "subclassed"])
def test_the_model_stays_where_the_converter_finds_the_ranges(name):
    model = ZOO[name]()
    assert placed(model, sample(name, 64)).model is model
    assert placed(model, None, quantization="float32").model is model


@pytest.mark.parametrize("options", [{"calibration": "mse"}, {"quantization": "int4"}, {"layers": {"hidden": "int4"}}])
def test_ranges_are_placed_in_a_copy_where_it_has_no_setting(options):
    model = ZOO["functional"]()
    conversion = placed(model, sample("functional", 64), **options)
    assert is_quantized(conversion.model) and not is_quantized(model)
    bits = conversion.model.get_layer("hidden").chains[0].transforms[0].bits
    assert bits == (8 if "calibration" in options else 4)


def test_a_layer_in_float_keeps_its_weights_and_its_outputs_unrounded():
    model = ZOO["functional"]()
    copy = placed(model, sample("functional", 64), keep_float=("hidden",)).model
    assert not any(chain.transforms for chain in getattr(copy.get_layer("hidden"), "chains", ()))
    np.testing.assert_array_equal(copy.get_weights()[0], model.get_weights()[0])


def test_few_samples_are_noted():
    conversion = placed(ZOO["functional"](), sample("functional", 8))
    assert any("samples are few" in note for note in conversion.notes)


def test_what_is_averaged_before_a_concatenation_gets_a_range_of_its_own():
    inputs = keras.Input((8, 8, 3))
    average = layers.AveragePooling2D(4, strides=1, padding="same", name="average")(inputs)
    model = keras.Model(inputs, layers.Concatenate()([average, layers.Conv2D(2, 1)(inputs)]))
    x = np.random.default_rng(0).random((64, 8, 8, 3), dtype="float32")
    conversion = placed(model, x)
    assert is_quantized(conversion.model) and "clip what layers ['average']" in conversion.notes[-1]
    again = placed(tg.quantize(model, tg.QuantizeConfig(calibration_data=x)), x)
    assert not any("clip" in note for note in again.notes)  # trained ranges stay


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidValueError, match="a model whose layers are a graph, for calibration='percentile'"):
        placed(ZOO["subclassed"](), sample("subclassed", 64), calibration="mse")
    with pytest.raises(InvalidValueError, match="to see the ranges of its activations"):
        placed(ZOO["functional"](), None, quantization="int4")
    with pytest.raises(InvalidValueError, match="'hiden'"):
        placed(ZOO["functional"](), sample("functional", 64), layers={"hiden": "int4"})
