"""Inputs of an open size: the file returns at every size what the model does, or is refused with the layer named."""

from __future__ import annotations

import importlib
import re
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg

LENGTH, IMAGE, FRAMES = (None, 4), (None, None, 3), (None, 6, 4)


def unet(x):
    below = layers.Conv2D(4, 3, padding="same")(layers.MaxPooling2D(2)(x))
    return layers.Conv2D(2, 1)(layers.Concatenate()([layers.UpSampling2D(2)(below), x]))


def frame():
    return keras.Sequential([keras.Input((6, 4)), layers.Conv1D(3, 3), layers.Flatten(), layers.Dense(2)])


MODELS = {
    "steps": (LENGTH, lambda x: layers.TimeDistributed(layers.Dense(2))(x)),
    "steps of a model": (FRAMES, lambda x: layers.TimeDistributed(frame())(x)),
    "steps of open size": ((None, None, 4), lambda x: layers.TimeDistributed(layers.Conv1D(3, 3))(x)),
    "steps of a recurrent layer": (FRAMES, lambda x: layers.TimeDistributed(layers.LSTM(3))(x)),
    "valid 1D": (LENGTH, lambda x: layers.GlobalMaxPooling1D()(layers.Conv1D(2, 5)(x))),
    "valid 2D": (IMAGE, lambda x: layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3, strides=2)(x))),
    "reshape of pairs": (LENGTH, lambda x: layers.Dense(2)(layers.Reshape((-1, 8))(x))),
    "recurrent": (LENGTH, lambda x: layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)),
    "attention": (LENGTH, lambda x: layers.MultiHeadAttention(2, 4)(x, x)),
    "encoder and decoder": (IMAGE, unet),
    "bilinear": (IMAGE, lambda x: layers.Conv2D(2, 1)(layers.UpSampling2D((2, 3), interpolation="bilinear")(x))),
    "longer": (LENGTH, lambda x: layers.Conv1D(2, 3)(layers.UpSampling1D(3)(x))),
}


def built(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    shape, function = MODELS[name]
    inputs = keras.Input(shape)
    return keras.Model(inputs, function(inputs))


def sample(model: keras.Model, count: int, *sizes: int) -> np.ndarray:
    given = iter(sizes)
    shape = [next(given) if size is None else size for size in model.input_shape[1:]]
    return np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_file_computes_what_the_model_does_at_any_size(name):
    model = built(name)
    lite = tg.convert(model)
    for sizes in ((14, 10), (22, 18), (8, 12)):
        x = sample(model, 2, *sizes)
        np.testing.assert_allclose(lite.predict(x), model(x), atol=1e-5)


@pytest.mark.parametrize("name", ["steps", "valid 2D", "encoder and decoder", "reshape of pairs"])
def test_so_does_an_int8_file(name):
    model = built(name)
    lite = tg.convert(model, quantization="int8", calibration_data=sample(model, 64, 16, 16))
    assert not lite.float_operators
    for sizes in ((14, 10), (22, 18)):
        x = np.clip(sample(model, 2, *sizes), -2, 2)
        expected = np.asarray(model(x))
        got = lite.predict(x)
        assert got.shape == expected.shape
        assert np.abs(got - expected).mean() < 0.05 * np.abs(expected).max()


@keras.saving.register_keras_serializable("tests")
class Steps(layers.TimeDistributed):
    """Not the class that is known, and so converted to a loop over one step."""


def test_a_file_that_returns_other_shapes_is_refused_with_the_layer_named():
    inputs = keras.Input(LENGTH)
    model = keras.Model(inputs, layers.ReLU()(Steps(layers.Dense(2), name="each")(inputs)))
    with pytest.raises(tg.ConversionError, match=r"shape \(1, 1, 2\) instead of \(1, 12, 2\). .*of each.*fixed size"):
        tg.convert(model)


def test_a_file_that_cannot_run_at_a_size_is_refused_with_the_layer_named(monkeypatch):
    module = importlib.import_module("tfgreen.deploy.conversion.open_sizes")
    real = module.run_all

    def run_all(interpreter, inputs, outputs, x):
        if x[inputs[0].name].shape[1] == 32:
            raise tg.ConversionError("too long")
        return real(interpreter, inputs, outputs, x)

    monkeypatch.setattr(module, "run_all", run_all)
    monkeypatch.setattr(module, "_culprit", lambda *args: "It begins here. ")
    with pytest.raises(tg.ConversionError, match=re.escape("[(1, 32, 4)], which the model takes, LiteRT cannot run")):
        tg.convert(built("valid 1D"))


def test_a_recurrent_layer_over_a_batch_and_a_length_both_open_is_refused_in_words():
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, layers.TimeDistributed(layers.LSTM(3), name="each")(inputs))
    with pytest.raises(tg.ConversionError, match=r"layers \['each'\] loop over a batch of open size.*unroll=True"):
        tg.convert(model)


def test_the_samples_of_the_look_are_none_of_the_users():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layers.Conv1D(4, 3, padding="same")(inputs))
    quiet = np.random.default_rng(0).normal(size=(32, 16, 3)).astype("float32") * 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # the range of the file is that of the user's
        tg.convert(model, quantization="int8", calibration_data=quiet)


class Positions(layers.Layer):
    """A table of positions, which takes sequences of its own length only."""

    def build(self, shape):
        self.table = self.add_weight(shape=(16, shape[-1]))

    def call(self, x):
        return x + self.table


@pytest.mark.parametrize("quantization", ["float32", "float16", "dynamic"])
def test_rows_that_belong_to_several_samples_are_refused(quantization):
    """As in CLIP, each text is compared with each image; of one sample a file returns one number."""
    texts, images = keras.Input((None,), dtype="int32", name="texts"), keras.Input((8,), name="images")
    text = layers.GlobalAveragePooling1D()(Positions()(layers.Embedding(20, 6)(texts)))
    image = layers.Dense(6)(images)
    model = keras.Model([texts, images], keras.ops.matmul(text, keras.ops.transpose(image)))
    with pytest.raises(tg.ConversionError, match=r"shape \(2, 2\).*\(2, 1\): its rows are not those of the samples"):
        tg.convert(model, quantization=quantization)
    apart = keras.Model([texts, images], keras.ops.sum(text * image, axis=-1, keepdims=True))
    assert tg.convert(apart, quantization=quantization).outputs[0].shape[-1] == 1
