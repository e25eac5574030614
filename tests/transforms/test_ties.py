"""Ties: what several layers read is compressed once, and remains one weight."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tests import zoo
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.transforms.ties import tied_variables

WORDS, UNITS = 40, 8
TOKENS = np.random.default_rng(0).integers(0, WORDS, (64, 5)).astype("int32")
HALF = tg.ConstantSparsity(0.5, begin_step=0, frequency=1)
VERBS = {
    "prune": lambda model: tg.prune(model, schedule=HALF, criterion="random"),
    "cluster": lambda model: tg.cluster(model, number_of_clusters=4),
    "quantize": lambda model: tg.quantize(model, calibration_data=TOKENS),
}


@keras.saving.register_keras_serializable(package="tests")
class Reader(layers.Layer):
    """A layer that multiplies by the transpose of a weight of another one, which it holds."""

    def __init__(self, held, **kwargs):
        super().__init__(**kwargs)
        self.held = held

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.held.weights[0]))

    def get_config(self):
        return {**super().get_config(), "held": keras.saving.serialize_keras_object(self.held)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "held": keras.saving.deserialize_keras_object(config["held"])})


class VariableReader(layers.Layer):
    """The same, but of the variable itself; Keras cannot save such a tie."""

    def __init__(self, variable, **kwargs):
        super().__init__(**kwargs)
        self.parts = {"tables": [variable]}

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.parts["tables"][0]))


def net(kind: str, words: int = WORDS, units: int = UNITS) -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    table = (layers.ReversibleEmbedding if kind == "reversible" else layers.Embedding)(words, units, name="table")
    hidden = layers.Dense(units, activation="relu", name="hidden")(table(inputs))
    if kind == "reversible":
        return keras.Model(inputs, table(hidden, reverse=True))
    if kind == "dense":
        code = layers.Dense(3, use_bias=False, name="code")
        return keras.Model(inputs, Reader(code, name="back")(code(hidden)))
    if kind == "transposed":
        code = layers.Dense(100, use_bias=False, name="code")
        return keras.Model(inputs, Reader(code, name="back")(layers.ReLU(name="between")(code(hidden))))
    if kind == "variable":
        return keras.Model(inputs, VariableReader(table.embeddings, name="back")(hidden))
    return keras.Model(inputs, Reader(table, name="back")(hidden))


class Whole(keras.Model):
    """Two layers that hold one variable, in a model that is no graph."""

    def __init__(self):
        super().__init__()
        self.table = layers.Embedding(WORDS, UNITS)
        self.table.build(None)
        self.back = VariableReader(self.table.embeddings)

    def call(self, x):
        return self.back(self.table(x))


def whole(kind: str) -> keras.Model:
    model = Whole()
    model(TOKENS[:1])
    return model


def trained(model: keras.Model) -> keras.Model:
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    targets = np.random.default_rng(1).normal(size=model(TOKENS).shape).astype("float32")
    model.fit(TOKENS, targets, batch_size=16, verbose=0, callbacks=[tg.UpdateCompression()])
    return model


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", zoo.one_in(3, ["reversible", "layer", "dense", "variable", "subclassed"]))
def test_a_weight_that_is_read_twice_is_compressed_once_and_stays_one(kind, verb, tmp_path):
    model = (whole if kind == "subclassed" else net)(kind)
    result = trained(VERBS[verb](model))
    parameters = sum(np.prod(v.shape) for v in model.trainable_weights)
    plain = tg.strip(result)
    assert sum(np.prod(v.shape) for v in plain.trainable_weights) == parameters
    if verb == "quantize" and kind != "subclassed":  # strip drops the ranges of the activations
        for _, layer in compressed_layers(result):
            layer.activations = None
    expected = result(TOKENS).numpy()
    np.testing.assert_allclose(plain(TOKENS), expected, atol=1e-5)
    for variable in plain.trainable_weights:
        if len(variable.shape) == 2 and verb == "prune":
            assert np.mean(variable.numpy() == 0) == pytest.approx(0.5, abs=0.02)
        if len(variable.shape) == 2 and verb == "cluster":
            assert len(np.unique(variable)) <= 4
    if kind not in ("variable", "subclassed") and verb != "quantize":
        result.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(again(TOKENS), expected, atol=1e-6)
        np.testing.assert_allclose(tg.strip(trained(again))(TOKENS), again(TOKENS), atol=1e-5)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", ["lambda", "operation", "activation"])
def test_a_weight_that_is_read_out_of_reach_is_left_alone_and_the_reader_named(kind, verb):
    inputs = keras.Input((5,), dtype="int32")
    table = layers.Embedding(WORDS, UNITS, name="table")
    hidden = layers.Dense(UNITS, name="hidden")(table(inputs))
    if kind == "lambda":
        outputs = layers.Lambda(lambda x: ops.matmul(x, ops.transpose(table.embeddings)), name="reader")(hidden)
    elif kind == "activation":
        outputs = layers.Dense(UNITS, activation=lambda x: x + table.embeddings[0], name="reader")(hidden)
    else:
        outputs = ops.einsum("abc,dc->abd", hidden, table.embeddings)
    model = keras.Model(inputs, outputs)
    result = trained(VERBS[verb](model))
    rows = {row.layer: row for row in tg.summary(result).weights}
    reader = model.layers[-1].name if kind != "operation" else "einsum"
    assert rows["table"].done == () and f"'{reader}" in rows["table"].reason and rows["hidden"].done
    before = table.embeddings.numpy()
    if verb != "quantize":
        np.testing.assert_allclose(tg.strip(result)(TOKENS), result(TOKENS), atol=1e-6)
    assert not np.array_equal(tg.strip(result).get_layer("table").embeddings, before)  # it was trained, and apart
    np.testing.assert_array_equal(table.embeddings, before)


def test_settings_that_leave_one_reader_out_leave_the_weight_alone():
    pruned = tg.prune(net("layer"), schedule=HALF, layers={"back": None})
    rows = {row.layer: row for row in tg.summary(pruned).weights}
    assert rows["table"].done == () and "'back'" in rows["table"].reason and rows["hidden"].done == ("Mask",)


def test_the_summary_counts_a_shared_weight_once():
    rows = tg.summary(tg.prune(net("layer"))).weights
    assert sum(row.size for row in rows) == WORDS * UNITS + UNITS * UNITS
    assert [(row.layer, row.counted_with) for row in rows if row.counted_with] == [("back", "table")]


def test_readers_of_a_model_without_ties():
    assert tied_variables(net("reversible")) == {}
