from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg

WORDS = tf.constant([["b"], ["a"], ["new"]])


def reloaded(model, tmp_path, **custom):
    return tg.load_compressed(tg.save_compressed(model, tmp_path / "m.npz"), custom or None)


def header_of(path):
    with np.load(path, allow_pickle=False) as arrays:
        return json.loads(arrays["header"].tobytes())


@pytest.mark.parametrize("axis", [-1, None])
def test_an_adapted_normalization_computes_the_same(axis, tmp_path):
    norm = layers.Normalization(axis=axis)
    x = np.random.default_rng(0).normal(3.0, 5.0, (64, 4)).astype("float32")
    norm.adapt(x)
    model = keras.Sequential([keras.Input((4,)), norm, layers.Dense(2)])
    np.testing.assert_array_equal(reloaded(model, tmp_path)(x), model(x))
    header = header_of(tmp_path / "m.npz") | {"tfgreen_format": 1}  # which held no state, but these weights
    with np.load(tmp_path / "m.npz") as arrays:
        text = json.dumps(header).encode()
        np.savez(tmp_path / "old.npz", header=np.frombuffer(text, np.uint8), weights=arrays["weights"])
    np.testing.assert_array_equal(tg.load_compressed(tmp_path / "old.npz")(x), model(x))
    nested = keras.Sequential([keras.Input((4,)), model, layers.Dense(2)])
    np.testing.assert_array_equal(reloaded(nested, tmp_path)(x), nested(x))


@pytest.mark.parametrize(
    "layer, data",
    [
        (lambda: layers.StringLookup(), WORDS),
        (lambda: layers.StringLookup(output_mode="tf_idf"), WORDS),
        (lambda: layers.StringLookup(vocabulary=["b", "a"]), WORDS),
        (lambda: layers.IntegerLookup(), tf.constant([[30], [7], [9]], tf.int64)),
        (lambda: layers.TextVectorization(output_sequence_length=3), tf.constant([["b a"], ["a a"], ["new ü"]])),
        (lambda: layers.TextVectorization(output_mode="tf_idf"), tf.constant([["b a"], ["a a"], ["new ü"]])),
        (lambda: layers.Discretization(num_bins=3), tf.constant([[1.0], [2.0], [7.0]])),
    ],
)
def test_adapted_layers_keep_what_they_learned(layer, data, tmp_path):
    layer = layer()
    if getattr(layer, "input_vocabulary", None) is None:
        layer.adapt(data[:2])
    model = keras.Sequential([keras.Input((1,), dtype=data.dtype.name), layer])
    np.testing.assert_array_equal(reloaded(model, tmp_path)(data), model(data))


@keras.saving.register_keras_serializable(package="test_state")
class Counter(layers.Layer):
    """Keeps an array that is no weight, and a file in a folder."""

    seen, note = np.zeros(3, "int64"), "nothing"

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale

    def save_own_variables(self, store):
        store["gain"], store["seen"] = self.scale, self.seen

    def load_own_variables(self, store):
        self.scale.assign(store["gain"])
        self.seen = store["seen"]

    def save_assets(self, folder):
        tf.io.gfile.makedirs(f"{folder}/notes")
        with open(f"{folder}/notes/note.txt", "w") as file:
            file.write(self.note)

    def load_assets(self, folder):
        with open(f"{folder}/notes/note.txt") as file:
            self.note = file.read()


def test_what_a_class_of_ones_own_writes_comes_back_and_weights_are_stored_once(tmp_path):
    model = keras.Sequential([keras.Input((64,)), Counter(name="counter"), layers.Dense(2, name="out")])
    model.layers[0].seen, model.layers[0].note = np.array([1, 2, 3]), "hello"
    loaded = reloaded(model, tmp_path).layers[0]
    assert loaded.seen.tolist() == [1, 2, 3] and loaded.note == "hello"
    states = header_of(tmp_path / "m.npz")["state"]
    assert [state["layer"] for state in states] == ["counter", "out"]
    assert states[0]["variables"]["gain"] == "counter/scale"
    assert states[1]["variables"] == {"0": "out/kernel", "1": "out/bias"}


@pytest.mark.parametrize("value", ["words", np.array([1j]), {"nested": 1}])
def test_what_the_file_cannot_hold_is_refused(value, tmp_path):
    model = keras.Sequential([keras.Input((2,)), Counter(name="counter")])
    model.layers[0].seen = value
    with pytest.raises(ValueError, match=r"'counter' \(Counter\).*'seen' of dtype.*save_assets"):
        tg.save_compressed(model, tmp_path / "m.npz")


def test_a_vocabulary_that_keras_would_read_back_as_another_is_refused(tmp_path):
    terms = tf.constant([["a\nb"], ["c"]])
    adapted = layers.StringLookup(name="lookup")
    adapted.adapt(terms)
    inside = layers.TextVectorization(standardize=None, split=None, name="text")
    inside.adapt(terms)
    for layer, message in (
        (adapted, r"'lookup'.*'a\\nb' takes no single line.*vocabulary="),
        (inside, r"'text/.*'a\\nb' takes no single line.*vocabulary="),
        (layers.StringLookup(name="empty"), r"'empty'.*vocabulary is empty.*adapt\(\)"),
    ):
        with pytest.raises(ValueError, match=message):
            tg.save_compressed(keras.Sequential([keras.Input((1,), dtype="string"), layer]), tmp_path / "m.npz")
    given = layers.StringLookup(vocabulary=["a\nb", "c"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), given])
    np.testing.assert_array_equal(reloaded(model, tmp_path)(terms), model(terms))


def test_a_state_that_does_not_load_names_the_layer(tmp_path, monkeypatch):
    path = tg.save_compressed(keras.Sequential([keras.Input((2,)), Counter(name="counter")]), tmp_path / "m.npz")
    monkeypatch.setattr(Counter, "load_own_variables", lambda self, store: store["missing"])
    with pytest.raises(ValueError, match=r"m.npz.*'counter' \(Counter\) cannot load its state: .*missing"):
        tg.load_compressed(path)


def test_lora_comes_back_to_the_bit(tmp_path):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign(np.ones((2, 4)))
    for one, other in zip(reloaded(model, tmp_path).weights, model.weights, strict=True):
        np.testing.assert_array_equal(one, other)
