"""Marks for quantize_apply, and what cannot be marked, in the words of TFMOT."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen.compat as tfmot
from tfgreen.compat.annotate import QuantizeAnnotate
from tfgreen.compat.quantize_config import DefaultQuantizeConfig

qk = tfmot.quantization.keras
SUBCLASSED = keras.Model()


def test_a_marked_model_computes_the_same_and_is_saved(tmp_path):
    marked = qk.quantize_annotate_layer(layers.Dense(3), DefaultQuantizeConfig())
    model = qk.quantize_annotate_model(keras.Sequential([keras.Input((4,)), layers.Dense(8), marked]))
    assert all(isinstance(layer, QuantizeAnnotate) for layer in model.layers)
    assert [layer.quantize_config is None for layer in model.layers] == [True, False]
    model.save(tmp_path / "model.keras")
    with qk.quantize_scope():
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert isinstance(loaded.layers[1].quantize_config, DefaultQuantizeConfig)


@pytest.mark.parametrize(
    ("use", "value", "text"),
    [
        (qk.quantize_annotate_layer, None, "`to_annotate` cannot be None"),
        (qk.quantize_annotate_layer, "dense", "`to_annotate` can only be a `keras.layers.Layer` instance"),
        (qk.quantize_annotate_layer, SUBCLASSED, "`to_annotate` can only be a `keras.layers.Layer` instance"),
        (qk.quantize_annotate_model, None, "`to_annotate` cannot be None"),
        (qk.quantize_annotate_model, layers.Dense(2), "`to_annotate` can only be a `keras.Model` instance"),
        (qk.quantize_annotate_model, SUBCLASSED, "`to_annotate` can only either be a keras Sequential or Functional"),
        (qk.quantize_model, None, "`to_quantize` cannot be None"),
        (qk.quantize_model, SUBCLASSED, "`to_quantize` can only either be a keras Sequential or Functional model"),
        (qk.quantize_model, keras.Sequential([layers.Dense(2)]), "`to_quantize` must be a built model"),
        (qk.quantize_apply, None, "`model` cannot be None"),
        (qk.quantize_apply, layers.Dense(2), "`model` can only be a `keras.Model` instance"),
    ],
    ids=["layer None", "layer str", "layer model", "None", "layer", "subclassed", "q None", "q subclassed", "unbuilt",
         "apply None", "apply layer"],
)
def test_what_cannot_be_quantized(use, value, text):
    with pytest.raises(ValueError, match=text):
        use(value)


def test_a_config_is_one():
    with pytest.raises(ValueError, match="`quantize_config` can only be a `tfmot.quantization.keras.QuantizeConfig`"):
        qk.quantize_annotate_layer(layers.Dense(2), {"bits": 8})


def test_keras_2_says_how_to_bring_it_over():
    import tf_keras

    old = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(2)])
    for use in (qk.quantize_model, qk.quantize_annotate_model, qk.quantize_apply):
        with pytest.raises(TypeError, match=r"Keras 2.*tg.load_model\('model.h5'\)"):
            use(old)
    with pytest.raises(TypeError, match="Keras 2"):
        qk.quantize_annotate_layer(old.layers[0])
