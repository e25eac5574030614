"""Kernels of float files stored sparse: smaller, equal outputs to the bit, and only where it is worth it and runs."""

from __future__ import annotations

import functools
import importlib

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg

FLOATS = ("float32", "float16")


@functools.cache
def made(name: str) -> keras.Model:
    return MODELS[name]()


@functools.cache
def artifact(name: str, quantization: str, sparse_weights: object) -> tg.LiteRTModel:
    return tg.convert(made(name), quantization=quantization, sparse_weights=sparse_weights)


def pruned(*stack: keras.Layer, shape=(14, 14, 16), share=0.9, zero=-0.0) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape), *stack])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(np.where(rng.random(weight.shape) < share, zero, weight))
    return model


SHARED = layers.Dense(64, "relu")
MODELS = {
    "convolutions": lambda: pruned(
        layers.Conv2D(48, 3, activation="relu", name="wide"), layers.BatchNormalization(), layers.DepthwiseConv2D(3),
        layers.Conv2D(64, 1, name="point"), layers.Flatten(), layers.Dense(20, name="fc"),
    ),
    "any size": lambda: pruned(
        layers.Conv2D(64, 3, padding="same"), layers.GlobalAveragePooling2D(), layers.Dense(64), shape=(None, None, 16)
    ),
    "shared": lambda: pruned(SHARED, SHARED, shape=(64,)),
    "nothing left": lambda: pruned(layers.Dense(64), shape=(64,), share=1.0),
    "loop": lambda: pruned(layers.LSTM(48), layers.Dense(32), shape=(12, 32)),
    "volume": lambda: pruned(layers.Conv1D(48, 5), layers.Flatten(), layers.Dense(32), shape=(20, 32)),
}


@pytest.mark.parametrize(
    "name, quantization", [*((name, "float32") for name in MODELS), ("convolutions", "float16"), ("loop", "float16")]
)
def test_sparse_files_are_smaller_and_equal_to_the_bit(name, quantization):
    model = made(name)
    dense, sparse = artifact(name, quantization, False), artifact(name, quantization, "auto")
    x = np.random.default_rng(2).normal(size=(4, *(size or 15 for size in model.input_shape[1:]))).astype("float32")
    np.testing.assert_array_equal(sparse.predict(x), dense.predict(x))
    assert sparse.size_bytes < (0.4 if quantization == "float32" or name == "convolutions" else 0.5) * dense.size_bytes
    assert "DENSIFY" in sparse.operators and "DENSIFY" not in dense.operators and not dense.notes
    assert any("stored sparse" in note and "sparse_weights=False" in note for note in sparse.notes)
    assert sparse.weights.keys() == dense.weights.keys()
    for path, weight in dense.weights.items():
        np.testing.assert_array_equal(sparse.weights[path].values, weight.values)
    assert (sparse.sparsity, sparse.nonzero_bytes) == (dense.sparsity, dense.nonzero_bytes)
    stored = [sum(weight.stored_bytes for weight in lite.weights.values()) for lite in (dense, sparse)]
    assert stored[1] < stored[0] and sparse.size_bytes < dense.size_bytes - 0.8 * (stored[0] - stored[1])


def test_the_convolutions_reach_the_sizes_that_are_claimed(tmp_path):
    for quantization, factor in zip(FLOATS, (5.5, 4.5)):
        dense, sparse = (artifact("convolutions", quantization, how) for how in (False, "auto"))
        assert dense.size_bytes > factor * sparse.size_bytes
        assert tg.load_litert(sparse.save(tmp_path / "sparse.tflite")).content == sparse.content
        assert "alignas(16)" in sparse.save(tmp_path / "sparse.cc").read_text()[:400]


@pytest.mark.parametrize("quantization", FLOATS)
def test_what_looks_into_a_file_knows_its_layers(quantization):
    model = made("convolutions")
    lite, x = artifact("convolutions", quantization, "auto"), np.ones((2, 14, 14, 16), "float32")
    rows = [row for row in lite.audit.operators if row.operator == "DENSIFY"]
    assert {row.layers for row in rows} >= {("wide",), ("point",), ("fc",)} and not any(row.in_float for row in rows)
    assert lite.float_operators == sorted(set(lite.operators) - {"DENSIFY", "DEQUANTIZE"})
    errors = tg.compare_layers(model, lite, x)
    assert {"wide", "point", "fc"} <= {row.layer for row in errors.layers} and tg.verify(model, lite, x).passed
    assert all(row.operator != "DENSIFY" for row in errors.layers)
    for row in tg.profile_operators(lite, runs=2).operators:
        assert (row.median_us is None) == (row.operator in ("DENSIFY", "DEQUANTIZE"))


def test_auto_leaves_dense_what_gains_little_and_true_stores_what_gains_anything():
    few = pruned(layers.Dense(200), layers.Dense(64), shape=(64,), share=0.0)
    few.layers[1].kernel.assign(few.layers[1].kernel * (np.random.default_rng(0).random((200, 64)) > 0.6))
    assert "DENSIFY" not in tg.convert(few).operators
    lite = tg.convert(few, sparse_weights=True)
    assert lite.operators["DENSIFY"] == 1 and lite.size_bytes < tg.convert(few).size_bytes
    plain = pruned(layers.Dense(64), shape=(64,), share=0.0)
    assert tg.convert(plain, sparse_weights=True).content == tg.convert(plain, sparse_weights=False).content


def test_what_is_read_otherwise_stays_dense():
    tied = layers.Embedding(300, 32, name="table")
    tokens = keras.Input((6,), dtype="int32")
    model = keras.Model(tokens, keras.ops.matmul(tied(tokens), keras.ops.transpose(tied.embeddings)))
    tied.embeddings.assign(np.where(np.random.default_rng(0).random((300, 32)) < 0.9, 0, tied.embeddings))
    x = np.arange(12).reshape(2, 6).astype("int32")
    lite, dense = tg.convert(model), tg.convert(model, sparse_weights=False)
    np.testing.assert_array_equal(lite.predict(x), dense.predict(x))
    np.testing.assert_allclose(lite.predict(x), model(x), atol=1e-6)


def test_a_sparse_file_that_does_not_run_falls_back_and_says_so(monkeypatch):
    module = importlib.import_module("tfgreen.deploy.storage.sparse_weights")
    operator = module.schema.OperatorT

    def wrong(opcode, inputs, outputs, *options):  # unpacks a tensor that is not there yet
        return operator(opcode, outputs, outputs, *options)

    monkeypatch.setattr(module, "OperatorT", wrong)
    model = made("nothing left")
    lite = tg.convert(model)
    assert "DENSIFY" not in lite.operators and "stored dense" in lite.notes[-1] and "LiteRT refuses" in lite.notes[-1]
    assert lite.predict(np.ones((2, 64), "float32")).shape == (2, 64)
    with pytest.raises(tg.ConversionError, match="does not run it with sparse_weights=True"):
        tg.convert(model, sparse_weights=True)


@pytest.mark.parametrize("quantization", ["int8", "dynamic", "int16x8", "int4"])
def test_integers_stay_dense(quantization):
    with pytest.raises(tg.InvalidValueError, match="sparse_weights: expected 'auto' or False.*'float32' or 'float16'"):
        tg.ConvertConfig(quantization=quantization, sparse_weights=True)
    if quantization in ("int8", "dynamic"):
        data = {} if quantization == "dynamic" else {"calibration_data": np.ones((4, 14, 14, 16), "float32")}
        assert "DENSIFY" not in tg.convert(made("convolutions"), quantization=quantization, **data).operators


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_the_setting_is_checked(value):
    with pytest.raises(tg.InvalidValueError, match="sparse_weights: expected 'auto', True or False"):
        tg.ConvertConfig(sparse_weights=value)
