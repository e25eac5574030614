import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.deploy.litert_model import LiteRTModel


def _both(model: keras.Model, **options: object) -> tuple[LiteRTModel, LiteRTModel]:
    return tg.convert(model, **options), tg.convert(model, weight_scales="bfloat16", **options)


@pytest.mark.parametrize("name", ["batchnorm", *zoo.slow("residual", "separable", "lstm", "attention")])
@pytest.mark.parametrize("quantization", ["int8", "int16x8"])
def test_the_integers_stay_and_the_scales_are_those_of_tensorflow_s_bfloat16(name, quantization):
    model, x = zoo.ZOO[name](), zoo.sample(name, 32)
    before, after = _both(model, quantization=quantization, calibration_data=x)
    assert before.weights.keys() == after.weights.keys()
    rounded = 0
    for key, weight in before.weights.items():
        np.testing.assert_array_equal(after.weights[key].values, weight.values)
        if weight.scale is not None and np.size(weight.scale) > 1:
            expected = tf.cast(tf.cast(tf.constant(weight.scale, tf.float32), tf.bfloat16), tf.float32)
            np.testing.assert_array_equal(after.weights[key].scale, expected)
            rounded += 1
    assert rounded
    assert tg.verify(model, after, x).passed == tg.verify(model, before, x).passed


def test_a_file_of_many_channels_is_smaller_after_gzip_and_computes_the_same():
    model = keras.Sequential([keras.Input((8, 8, 3)), *(layers.Conv2D(64, 1, activation="relu") for _ in range(3))])
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
    before, after = _both(model, quantization="int8", calibration_data=x)
    assert before.size_bytes == after.size_bytes
    assert after.gzip_bytes < 0.97 * before.gzip_bytes
    expected = before.predict(x)
    assert np.abs(after.predict(x) - expected).max() <= 4 * expected.max() / 255


def test_the_scales_of_float_weights_are_refused():
    for quantization in ("float32", "float16", "dynamic"):
        with pytest.raises(ValueError, match="weight_scales: expected 'float32' with quantization"):
            tg.ConvertConfig(quantization=quantization, weight_scales="bfloat16")
    with pytest.raises(ValueError, match="weight_scales.*'float32' or 'bfloat16'"):
        tg.ConvertConfig(weight_scales="float16")
