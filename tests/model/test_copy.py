"""copy: a layer is copied as the object that it is, whatever its config lacks."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tfgreen as tg
from tfgreen.model.copy import Copies
from tfgreen.model.rebuild import rebuild

X = np.random.default_rng(0).normal(size=(8, 12)).astype("float32")


def flat(tensors):
    return [ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(tensors)]


def assert_faithful(model, x=X, train=True, moves_all=True):
    """A copy computes the same bits with variables of its own; training it moves all of them and no other."""
    copy = Copies().of(model)
    outputs = []
    for one in (model, copy):
        keras.utils.set_random_seed(1)
        outputs.append(flat(one(x)))
    for a, b in zip(*outputs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert type(copy) is type(model)
    assert [v.path for v in copy.variables] == [v.path for v in model.variables]
    assert [v.trainable for v in copy.variables] == [v.trainable for v in model.variables]
    assert not {id(v) for v in model.variables} & {id(v) for v in copy.variables}
    if train and copy.trainable_variables:
        before, own = flat(model.variables), flat(copy.trainable_variables)
        copy.compile("sgd", loss=lambda y, output: ops.mean(ops.square(ops.cast(output, "float32"))))
        copy.fit(x, np.zeros(len(keras.tree.flatten(x)[0])), verbose=0)
        for a, b in zip(before, flat(model.variables), strict=True):
            np.testing.assert_array_equal(a, b)
        still = [v.path for a, v in zip(own, copy.trainable_variables) if (a == ops.convert_to_numpy(v)).all()]
        assert not moves_all or not still
    return copy


class Block(layers.Layer):
    """As tutorials write it: no ``**kwargs``, no ``get_config``."""

    def __init__(self, units):
        super().__init__()
        self.dense = layers.Dense(units, activation="relu")
        self.norm = layers.BatchNormalization()

    def call(self, x, training=None):
        return self.norm(self.dense(x), training=training)


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [Block(16), Block(5)]
        self.named = {"last": layers.Dense(3)}
        self.tail = keras.Sequential([layers.Dense(4), layers.Dropout(0.5), layers.Dense(2)])

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x, training=training)
        return self.tail(self.named["last"](x), training=training)


class CompilesItself(Net):
    def __init__(self):
        super().__init__()
        self.compile("adam", "mse", metrics=["mae"])
        self.seen = keras.metrics.Mean()


class TiedHead(layers.Layer):
    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.embedding.embeddings))


class Backbone(keras.Model):
    """A functional model whose class has a constructor of its own, as KerasHub's have."""

    def __init__(self, units, **kwargs):
        inputs = keras.Input((12,))
        self_dense = layers.Dense(units, name="dense")
        super().__init__(inputs, layers.LayerNormalization()(self_dense(inputs)), **kwargs)
        self.dense, self.units = self_dense, units


def called(model, x=X):
    model(x)
    return model


@pytest.mark.parametrize("cls", [Net, CompilesItself])
def test_subclassed_models_with_a_plain_constructor(cls):
    copy = assert_faithful(called(cls()))
    assert copy.blocks[0].dense is copy.blocks[0]._layers[0] and copy.tail.layers[0] in copy.tail._functional.layers


def test_what_compile_set_is_left_out_and_a_metric_of_the_users_is_a_new_one():
    model = called(CompilesItself())
    model.fit(X, np.zeros((8, 2)), verbose=0)
    copy = Copies().of(model)
    assert not copy.compiled and getattr(copy, "optimizer", None) is None and copy.seen is not model.seen


def test_ties_are_kept_whatever_makes_them():
    ids = np.random.default_rng(0).integers(0, 20, (8, 5))
    inputs, embedding = keras.Input((5,), dtype="int32"), layers.Embedding(20, 6)
    tied = keras.Model(inputs, TiedHead(embedding)(embedding(inputs)))
    assert len(assert_faithful(tied, ids).variables) == 1
    copy = rebuild(tied, lambda path, layer: layer)
    assert len(copy.variables) == 1 and copy.layers[2].embedding is copy.layers[1]

    class Gated(layers.Layer):
        """It uses a layer that a closure holds."""

        def __init__(self, dense):
            super().__init__()
            self.dense = dense
            self.gate = lambda x: x * ops.sigmoid(dense.kernel[0, 0])

        def call(self, x):
            return self.gate(self.dense(x))

    gated = Gated(layers.Dense(3))
    gated(X)
    other = Copies().of(gated)
    other.dense.kernel.assign(ops.zeros_like(other.dense.kernel))
    assert float(other.gate(1.0)) == 0.5 and float(gated.gate(1.0)) != 0.5


def test_nested_functional_models_and_backbones():
    class Holder(keras.Model):
        def __init__(self):
            super().__init__()
            inputs, shared = keras.Input((12,)), layers.Dense(12)
            self.inner = keras.Model(inputs, shared(shared(inputs)) + layers.Dense(12)(inputs))
            self.first = self.inner.layers[1]

        def call(self, x):
            return self.first(self.inner(x))

    copy = assert_faithful(called(Holder()))
    assert copy.first is copy.inner.layers[1]
    backbone = Backbone(7)
    copy = assert_faithful(backbone)
    assert copy.units == 7 and copy.dense is copy.get_layer("dense")
    inputs = keras.Input((12,))
    assert_faithful(keras.Model(inputs, layers.Dense(3)(backbone(inputs))))
    assert_faithful(called(keras.Sequential([layers.Dense(3), layers.Dense(2)])))


def test_adapters_and_adapted_layers():
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(5)])
    for layer in model.layers:
        if hasattr(layer, "enable_lora"):
            layer.enable_lora(2)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.normal(size=variable.shape))
    assert_faithful(model, rng.normal(size=(8, 8, 8, 1)).astype("float32"))

    normalization = layers.Normalization()
    normalization.adapt(X * 3 + 5)
    assert_faithful(keras.Sequential([keras.Input((12,)), normalization, layers.Dense(3)]))
    words = layers.TextVectorization(max_tokens=10, output_sequence_length=4)
    words.adapt(["a b c", "b c", "c"])
    lookup = keras.Sequential([keras.Input((), dtype="string"), words, layers.Embedding(10, 3)])
    assert_faithful(lookup, tf.constant(["a c", "b z"]), train=False)


def softsign(x):
    return x / (1 + ops.abs(x))


def relu(x):
    return ops.minimum(ops.maximum(x, 0.0), 1.0)


def leaky(slope):
    return lambda x: ops.maximum(x, slope * x)


@pytest.mark.parametrize(
    "activation",
    [softsign, relu, leaky(0.2), tf.nn.silu, layers.ReLU(2.0), layers.PReLU(), functools.partial(ops.multiply, 2.0)],
    ids=["own", "named_relu", "closure", "tf", "layer", "layer_with_weights", "partial"],
)
def test_activations_of_every_kind(activation):
    assert_faithful(keras.Sequential([keras.Input((12,)), layers.Dense(3, activation), layers.Dense(2)]))


def test_objects_of_tensorflow_and_of_the_users_own():
    class Settings:
        def __init__(self, layer):
            self.layer, self.history = layer, []

    class Mixed(layers.Layer):
        def __init__(self):
            super().__init__()
            self.raw = tf.Variable(2.0)
            self.settings = Settings(layers.Dense(3))
            self.step = tf.function(lambda x: x * self.raw)
            self.calls = []

        def call(self, x):
            return self.step(self.settings.layer(x))

    layer = Mixed()
    layer(X)
    copy = Copies().of(layer)
    np.testing.assert_array_equal(copy(X), layer(X))
    copy.raw.assign(4.0)
    np.testing.assert_array_equal(copy(X), 2 * layer(X))
    copy.calls.append(1)
    assert layer.calls == [] and copy.settings.layer is not layer.settings.layer


def test_a_pruned_and_clustered_model_is_copied_with_its_masks_and_schedules():
    model = keras.Sequential([keras.Input((12,)), layers.Dense(8, "relu"), layers.Dense(3)])
    pruned = tg.prune(model, schedule=tg.ConstantSparsity(0.5, begin_step=0, frequency=1))
    pruned.compile("sgd", "mse")
    pruned.fit(X, np.zeros((8, 3)), verbose=0, callbacks=[tg.UpdateCompression()])
    copy = assert_faithful(pruned, train=False)
    chain = copy.layers[0].chains[0]
    assert copy.layers[0].layer.kernel.constraint.chain is chain
    assert chain.transforms[0].mask is not pruned.layers[0].chains[0].transforms[0].mask


@pytest.mark.slow
def test_every_layer_of_keras_is_copied_to_the_bit():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "scripts")
        table, cases = importlib.import_module("layer_table"), importlib.import_module("layer_cases")
    tried = 0
    for name in table.layer_classes():
        case = cases.case_of(name)
        try:
            model = case.model()
        except ImportError:  # a layer of another framework
            continue
        # The bias of attention's keys has no gradient: it shifts all scores alike.
        assert_faithful(model, case.data(4), train=name != "TFSMLayer", moves_all="Attention" not in name)
        tried += 1
    assert tried >= 140
