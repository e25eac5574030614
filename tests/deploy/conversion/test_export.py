"""Keras model -> SavedModel: it computes the same, and says what later steps need to know."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tests.zoo import ZOO, sample
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.converter import SAVED_MODEL
from tfgreen.deploy.conversion.export import export
from tfgreen.deploy.conversion.record import read
from tfgreen.errors import ConversionError


def exported(model, folder, **options):
    return export(read(model, ConvertConfig(**options)), folder)


@pytest.mark.parametrize("name", ["functional", "multi_io", "shared_layer", "subclassed", "attention"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_the_saved_model_computes_what_the_model_does(name, dynamic, tmp_path):
    model, count = ZOO[name](), 3 if dynamic else 1
    conversion = exported(model, tmp_path, dynamic_batch=dynamic)
    run = tf.saved_model.load(str(tmp_path / SAVED_MODEL)).signatures["serving_default"]
    x = sample(name, count)
    got = run(**{f"input_{i}": tf.constant(array) for i, array in enumerate(keras.tree.flatten(x))})
    expected = keras.tree.flatten(model(x, training=False))
    assert len(got) == len(expected) == len(keras.tree.flatten(conversion.traced.outputs))
    for i, value in enumerate(expected):
        np.testing.assert_allclose(got[f"output_{i}"], value, rtol=1e-5, atol=1e-6)


def test_the_trace_names_calls_outputs_and_loops(tmp_path):
    traced = exported(ZOO["multi_io"](), tmp_path).traced
    assert traced.outputs == {"label": "label", "size": "size"} and not traced.loops and not traced.fake_quantized
    assert [traced.calls[number] for number in traced.output_calls] == ["label", "size"]
    looped = exported(ZOO["lstm"](), tmp_path / "lstm").traced
    assert len(looped.loops) == 3 and len({loop.split("call.")[1].split("/")[0] for loop in looped.loops}) == 2
    quantized = tg.quantize(ZOO["functional"](), tg.QuantizeConfig(calibration_data=sample("functional", 64)))
    assert exported(quantized, tmp_path / "quantized", quantization="int8").traced.fake_quantized


@pytest.mark.parametrize("units, depth, costly", [(96, 6, True), (96, 1, False), (1500, 2, False)])
def test_scales_are_costly_where_they_take_two_percent_of_the_weights(units, depth, costly, tmp_path):
    body = [layers.Dense(units) for _ in range(depth)]
    traced = exported(keras.Sequential([keras.Input((64,)), *body]), tmp_path).traced
    assert traced.costly_scales == costly


def test_image_layers_are_those_that_augment(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.RandomFlip(name="flip"), layers.Conv2D(2, 3)])
    assert exported(model, tmp_path).traced.image_layers == {"flip"}


def test_what_a_file_cannot_hold_is_named(tmp_path):
    words = keras.Input((2,), dtype="int64")
    lookup = layers.IntegerLookup(vocabulary=[3, 5, 7], name="lookup")
    with pytest.raises(ConversionError, match=r"layers \['lookup'\] look words or numbers up in a table"):
        exported(keras.Model(words, lookup(words)), tmp_path)
    steps = keras.Input((3, 4), batch_size=1)
    with pytest.raises(ConversionError, match=r"writes to a variable.*\['memory'\]"):
        exported(keras.Model(steps, layers.SimpleRNN(2, stateful=True, name="memory")(steps)), tmp_path)


@keras.saving.register_keras_serializable(package="test_export")
class Refuses(keras.Model):
    def call(self, x):
        if isinstance(x, tf.Tensor) and not tf.executing_eagerly():
            raise RuntimeError("not in a graph")
        return x


def test_a_call_that_cannot_be_traced_is_told_in_its_own_words(tmp_path):
    model = Refuses(name="stubborn")
    model.build((None, 3))
    model.built = True
    with pytest.raises(ConversionError, match="(?s)'stubborn': cannot be traced .*RuntimeError: .*not in a graph"):
        exported(model, tmp_path)
