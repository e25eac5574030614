"""Layers made of layers, as graphs: equal outputs, all weights, and closed where their code cannot be read."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tests.quantized import error_in_scales, varied
from tests.transformers import FAMILIES, samples
from tfgreen.model.internals import is_container
from tfgreen.model.paths import walk
from tfgreen.quantization.opened import opened

RNG = np.random.default_rng(0)


class Block(layers.Layer):
    """As in tutorials: attention and a feed-forward part, each with a shortcut."""

    def __init__(self, width: int = 16, **kwargs) -> None:
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(2, width // 2)
        self.parts = keras.Sequential([layers.Dense(2 * width, activation="relu"), layers.Dense(width)])
        self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
        self.dropout = layers.Dropout(0.5)

    def call(self, x, training=False):
        x = self.norms[0](x + self.dropout(self.attention(x, x), training=training))
        return self.norms[1](x + self.parts(x))


class Outer(layers.Layer):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.block, self.head = Block(), layers.Dense(3)

    def call(self, x):
        x = self.block(x)
        return {"features": x, "logits": self.head(x)}


class LooksAtTraining(Block):
    def call(self, x, training=False):
        return super().call(x) if training else x + self.norms[0](self.norms[1](self.parts(self.attention(x, x))))


class OwnWeight(Block):
    def build(self, shape):
        super().build(shape)
        self.gain = self.add_weight(shape=(1,), initializer="ones", name="gain")

    def call(self, x, training=False):
        return super().call(x, training) * self.gain


class ReadsAKernel(Block):
    def call(self, x, training=False):
        x = super().call(x)
        return x @ ops.transpose(self.parts.layers[1].kernel)[:, :16]


class ReturnsAMask(OwnWeight):
    """As T5's: what it returns beside the features is added to scores."""

    def call(self, x, bias=None, training=False):
        x = super().call(x if bias is None else x + 0 * bias)
        return x, ops.where(x > 0, 0.0, -1e9)


class CallsTwoWays(layers.Layer):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.block = Block()

    def call(self, x):
        return self.block(x) + self.block(x[:, :4])[:, :1]


def model_of(layer: keras.layers.Layer) -> keras.Model:
    inputs = keras.Input((6, 16))
    outputs = layer(layers.Dense(16)(inputs))
    return keras.Model(inputs, outputs)


def equal(one: keras.Model, other: keras.Model, x) -> None:
    for a, b in zip(*(keras.tree.flatten(model.predict(x, verbose=0)) for model in (one, other)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Block, Outer])
def test_a_block_becomes_a_graph_of_equal_outputs_names_and_weights_and_is_not_touched(cls):
    model, x = model_of(cls(name="block")), RNG.normal(size=(4, 6, 16)).astype("float32")
    graph = opened(model)
    assert is_container(graph.get_layer("block")) and not is_container(model.get_layer("block"))
    equal(model, graph, x)
    assert {v.path for v in model.weights} == {v.path for v in graph.weights}
    assert not {id(v) for v in model.weights} & {id(v) for v in graph.weights}
    assert "symbolic_call" not in {name for _, layer in walk(graph) for name in vars(layer)}
    sums = [float(np.asarray(keras.tree.flatten(graph(x, training=True))[0]).sum()) for _ in range(3)]
    assert len(set(sums)) == 3  # dropout drops


@pytest.mark.slow
@pytest.mark.parametrize("cls", [LooksAtTraining, OwnWeight, ReadsAKernel, CallsTwoWays])
def test_what_cannot_be_read_stays_closed(cls):
    model = model_of(cls(name="block"))
    graph, x = opened(model), RNG.normal(size=(4, 6, 16)).astype("float32")
    found = [graph.get_layer("block"), *getattr(graph.get_layer("block"), "layers", ())]
    assert any(isinstance(layer, Block) for layer in found)
    equal(model, graph, x)


def test_a_layer_that_a_pattern_names_stays_closed_and_float():
    model, x = model_of(Block(name="block")), RNG.normal(size=(8, 6, 16)).astype("float32")
    whole = tg.quantize(model, calibration_data=x, keep_float=["block"])
    assert whole.get_layer("block").activations.reason == "the settings keep it in float"
    inside = tg.quantize(model, calibration_data=x, keep_float=["block/*norm*"])
    assert is_container(inside.get_layer("block"))


@pytest.mark.slow
def test_of_several_outputs_none_is_rounded_to_the_range_of_another():
    inputs = keras.Input((6, 16))
    x, bias = ReturnsAMask(name="block")(inputs)
    x, _ = ReturnsAMask(name="block_2")(x, bias)
    model, x = keras.Model(inputs, layers.Dense(3)(x)), RNG.normal(size=(64, 6, 16)).astype("float32")
    quantized = tg.quantize(model, calibration_data=x)
    expected, got = model.predict(x, verbose=0), quantized.predict(x, verbose=0)
    assert np.abs(expected - got).max() < 0.1 * np.abs(expected).max()
    assert np.abs(tg.convert(quantized, quantization="int8").predict(x) - got).max() < 0.05 * np.abs(expected).max()


class AddsAMask(layers.Layer):
    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.query, self.key, self.value = layers.Dense(16), layers.Dense(16), layers.Dense(16)

    def call(self, x):
        left_out = ops.cast(x[:, None, :, 0] > 1.0, "float32")
        scores = ops.matmul(self.query(x), ops.transpose(self.key(x), (0, 2, 1)))
        return ops.matmul(ops.softmax(scores + left_out * -1e9), self.value(x))


def test_a_block_that_adds_masks_is_opened_and_its_scores_stay_apart():
    model, x = model_of(AddsAMask(name="block")), RNG.normal(size=(64, 6, 16)).astype("float32")
    expected, got = model.predict(x, verbose=0), tg.quantize(model, calibration_data=x).predict(x, verbose=0)
    assert np.square(expected - got).mean() < 0.02 * expected.var()


class Lifts(layers.Layer):
    """Takes away what it has added, which is no loss in floats."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.inner = layers.Dense(16)

    def call(self, x):
        return (self.inner(x) + 500.0) - 500.0


def test_a_block_that_loses_by_being_opened_is_left_closed(monkeypatch):
    model, x = model_of(Lifts(name="block")), RNG.normal(size=(64, 6, 16)).astype("float32")
    expected = model.predict(x, verbose=0)
    noise = []
    for limit in (1e9, 0.1):
        monkeypatch.setattr("tfgreen.techniques.quantize.LOST", limit)
        got = tg.quantize(model, calibration_data=x).predict(x, verbose=0)
        noise.append(np.square(expected - got).mean() / expected.var())
    assert noise[0] > 0.1 and noise[1] < 0.02


def test_a_model_with_nothing_to_open_or_without_a_graph_is_handed_back():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    plain = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    subclassed = Subclassed()
    subclassed(np.zeros((1, 3), "float32"))
    assert opened(plain) is plain and opened(subclassed) is subclassed


def test_chains_of_weights_are_not_run_as_if_they_were_trained(recwarn):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="dense")])
    clustered = tg.cluster(tg.prune(model, schedule=tg.ConstantSparsity(0.5, begin_step=0)), number_of_clusters=4)
    assert opened(clustered) is clustered
    quantized = tg.quantize(clustered, calibration_data=np.ones((4, 4), "float32"))
    assert not quantized.get_layer("dense").ran_training
    assert "trained without its schedule" not in str([warning.message for warning in recwarn])


def test_masks_go_where_they_went():
    tokens, block = keras.Input((6,), dtype="int32"), Block(name="block")
    block.supports_masking = True
    x = block(layers.Embedding(10, 16, mask_zero=True)(tokens))
    model = keras.Model(tokens, layers.GlobalAveragePooling1D()(x))
    ids = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]])
    equal(model, opened(model), ids)


@pytest.mark.filterwarnings("ignore::UserWarning:keras.*")  # masks that T5 drops
@pytest.mark.parametrize("name", ["bert", *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)])
def test_a_task_of_keras_hub_becomes_a_plain_graph_of_equal_outputs(name):
    model = FAMILIES[name]()
    x = samples(model, 4)
    graph = opened(model)
    equal(model, graph, x if isinstance(model.input, dict) else next(iter(x.values())))
    # Of GPT-2 and Gemma, an embedding is also in the nested model that looks tokens up.
    assert name == "plain" or type(graph).__name__ == ("SharedGraph" if name in ("gpt2", "gemma") else "Functional")


def each_frame(steps: int | None = 6, norm: bool = False) -> keras.Model:
    frame = [keras.Input((16,)), layers.Dense(32, "relu"), *[layers.BatchNormalization()] * norm, layers.Dense(8)]
    inputs = keras.Input((steps, 16))
    x = layers.TimeDistributed(keras.Sequential(frame, name="frame"), name="each")(inputs)
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


@pytest.mark.parametrize("norm", [False, True])
def test_a_model_that_is_run_on_each_step_is_opened_and_its_file_is_no_larger_than_without_training(norm):
    keras.utils.set_random_seed(0)
    model, x = varied(each_frame(norm=norm)), RNG.normal(size=(64, 6, 16)).astype("float32")
    graph = opened(model)
    assert is_container(graph.get_layer("each"))
    np.testing.assert_allclose(graph.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    quantized = tg.quantize(model, calibration_data=x)
    lite, plain = (tg.convert(one, quantization="int8", calibration_data=x) for one in (quantized, model))
    assert not lite.float_operators and lite.size_bytes <= 1.05 * plain.size_bytes
    assert error_in_scales(quantized, lite, x) < 0.1


def test_a_model_that_is_run_on_each_of_any_number_of_steps_stays_closed():
    model, x = each_frame(steps=None), RNG.normal(size=(64, 6, 16)).astype("float32")
    assert opened(model) is model
    quantized = tg.quantize(model, calibration_data=x)
    lite = tg.convert(quantized, quantization="int8")
    assert tg.verify(quantized, lite, x).passed


@pytest.mark.slow
def test_the_kernels_of_a_block_that_stays_closed_are_integers_in_the_file():
    model, x = model_of(OwnWeight(name="block")), RNG.normal(size=(64, 6, 16)).astype("float32")
    quantized = tg.quantize(model, calibration_data=x)
    lite = tg.convert(quantized, quantization="int8")
    floats = [name for name, weight in lite.weights.items() if weight.values.dtype == np.float32]
    assert not [name for name in floats if lite.weights[name].values.size >= 256]
    expected, got = quantized.predict(x, verbose=0), lite.predict(x)
    assert np.abs(expected - got).max() < 0.05 * np.abs(expected).max()
    quantized.compile("adam", "mse")
    quantized.fit(x, np.zeros((64, 6, 16)), verbose=0)
