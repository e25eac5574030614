"""load_model: what tf_keras (Keras 2) and Keras 3 write comes back with the same names, weights and predictions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
import zipfile

import h5py
import keras
import numpy as np
import pytest

from tests import zoo
from tfgreen.errors import FileError, TfgreenError
from tfgreen.model.keras2.load import load_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf
    import tf_keras

L = tf_keras.layers
Input = tf_keras.Input


def conv():
    x = inputs = Input((8, 8, 3))
    x = L.Rescaling(0.5)(x)
    x = L.Conv2D(4, 3, padding="same")(x)
    x = L.experimental.SyncBatchNormalization()(x)
    x = L.LeakyReLU(0.1)(x)
    x = L.DepthwiseConv2D(3)(x)
    x = L.BatchNormalization(name="scope/norm")(x)
    x = L.SeparableConv2D(6, 3, padding="same")(x)
    x = L.Conv2DTranspose(4, 2, strides=2, padding="same")(x)
    x = L.PReLU(shared_axes=[1, 2])(x)
    x = L.ThresholdedReLU(0.01)(L.ReLU(6.0)(L.ELU()(x)))
    x = L.GaussianNoise(0.1)(L.SpatialDropout2D(0.1)(x))
    x = L.RandomFlip()(L.Cropping2D()(L.ZeroPadding2D()(L.UpSampling2D(interpolation="bilinear")(x))))
    x = L.GroupNormalization(2)(L.UnitNormalization()(x))
    x = L.Flatten()(L.GlobalAveragePooling2D(keepdims=True)(L.AveragePooling2D()(x)))
    return tf_keras.Model(inputs, L.Activation("softmax")(L.Dense(4, activation=tf.nn.swish)(x)))


def recurrent():
    inputs = Input((5, 4))
    x = L.LSTM(6, return_sequences=True)(inputs)
    x = L.Bidirectional(L.GRU(4, return_sequences=True, recurrent_activation="hard_sigmoid"))(x)
    x = L.TimeDistributed(L.Dense(3))(x)
    x, h, c = L.LSTM(3, return_state=True)(L.SimpleRNN(3, return_sequences=True)(x))
    y = L.LSTM(3)(inputs, initial_state=[h, c])
    z = L.RNN(L.StackedRNNCells([L.LSTMCell(3), L.GRUCell(2, reset_after=False)]))(inputs)
    return tf_keras.Model(inputs, [x, h, c, y, z])


def attention():
    query, value = Input((6, 8)), Input((6, 8))
    x = L.MultiHeadAttention(2, 4)(query, value=value)
    x = L.LayerNormalization(axis=[1, 2])(x)
    x, scores = L.MultiHeadAttention(2, 4, dropout=0.1)(x, x, return_attention_scores=True)
    x = L.AdditiveAttention()([L.Attention(use_scale=True)([x, x]), query])
    x = L.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")(x)
    return tf_keras.Model([query, value], [x, scores])


def embedding():
    stack = [L.Embedding(20, 8, input_length=6), L.Conv1D(4, 3), L.SeparableConv1D(4, 2), L.DepthwiseConv1D(2)]
    return tf_keras.Sequential([*stack, L.GlobalMaxPooling1D(), L.Dense(4)], name="net")


def nested():
    inner = tf_keras.Sequential([Input((6,)), L.Dense(5), L.BatchNormalization()], name="inner")
    hidden = Input((5,))
    two = tf_keras.Model(hidden, [L.Dense(3)(hidden), L.Dense(2)(hidden)], name="two")
    a, b = Input((6,), name="a"), Input((6,), name="b")
    (p, q), (r, s) = two(inner(a, training=False)), two(inner(b))
    return tf_keras.Model({"a": a, "b": b}, {"joined": L.Concatenate()([p, r]), "sum": L.Add()([q, s])})


def twice_nested():
    def block(name):
        return tf_keras.Sequential([Input((4,)), L.Dense(4, name=f"{name}2"), L.Dense(4, name=f"{name}1")], name=name)

    return tf_keras.Sequential([Input((4,)), tf_keras.Sequential([Input((4,)), block("a"), block("b")], name="stack")])


def frozen():
    convs = [L.Conv2D(4, 3), L.BatchNormalization(), L.Conv2D(4, 3), L.BatchNormalization()]
    base = tf_keras.Sequential([Input((8, 8, 4)), *convs], name="base")
    base.trainable = False
    base.layers[2].trainable = True
    inputs = Input((8, 8, 4))
    return tf_keras.Model(inputs, L.Dense(2)(L.Flatten()(base(inputs))))


def shared():
    inputs = Input((6,))
    dense = L.Dense(6, name="twice")
    x = dense(dense(inputs))
    return tf_keras.Model(inputs, x + dense(x))


def tensor_ops():
    inputs = Input((8,))
    x = tf.nn.relu(inputs + L.Dense(8, name="multiply")(inputs)) * 2.0
    x = L.Multiply(name="add")([x, x])
    joined = tf.concat([x[:, 1:5], x[..., 0:2]], axis=-1)
    rest = 1.0 - tf.reduce_mean(joined, axis=[1], keepdims=True)
    last = tf.cast(tf.expand_dims(x[:, -1], -1), "float32") ** 2
    split = tf.math.sigmoid(tf.split(x, [3, 5], axis=-1)[1])
    gelu = tf.nn.gelu(tf.clip_by_value(tf.matmul(joined, joined, transpose_b=True), -1.0, 1.0))
    return tf_keras.Model(inputs, [tf.reshape(rest, [-1, 1]), tf.stack([last, rest], axis=1), split, gelu])


def volume():
    inputs = Input((6, 6, 6, 2))
    return tf_keras.Model(inputs, L.MaxPooling3D()(L.Conv3DTranspose(2, 2)(L.Conv3D(3, 2)(inputs))))


def conv_lstm():
    inputs = Input((3, 6, 6, 2))
    return tf_keras.Model(inputs, L.ConvLSTM2D(3, 2)(inputs))  # recurrent_activation is Keras 2's hard_sigmoid


def normalization():
    layer = L.Normalization(axis=-1)
    layer.adapt(np.random.default_rng(0).normal(2.0, 3.0, size=(20, 5)))
    return tf_keras.Sequential([Input((5,)), layer, L.Dense(3)])


def mixed_precision():
    dense = L.Dense(3, dtype=tf_keras.mixed_precision.Policy("mixed_float16"))
    return tf_keras.Sequential([Input((4,)), dense, L.Activation("linear", dtype="float32")])


KERAS2 = [conv, recurrent, attention, embedding, nested, twice_nested, frozen, shared, tensor_ops, volume, conv_lstm]
KERAS2 += [normalization, mixed_precision]


def randomize(model, rng):
    """Weights that cannot be confused with one another; those of a Normalization stay as adapted."""
    for layer in model.layers:
        if not isinstance(layer, L.Normalization):
            layer.set_weights([np.abs(rng.normal(0, 0.3, size=w.shape)) for w in layer.get_weights()])


def save_h5(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both Keras versions advise against .h5
        model.save(path)


@pytest.mark.parametrize("build", KERAS2, ids=lambda build: build.__name__)
def test_keras2_h5_keeps_names_weights_and_predictions(build, tmp_path):
    tf_keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    source = build()
    randomize(source, rng)
    save_h5(source, tmp_path / "model.h5")

    model = load_model(tmp_path / "model.h5")

    assert isinstance(model, keras.Model) and model.name == source.name
    ours = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    ops = ("TFOpLambda", "SlicingOpLambda", "InputLayer")
    theirs = [layer.name.replace("/", "_") for layer in source.layers if type(layer).__name__ not in ops]
    assert sorted(ours) == sorted(theirs)
    assert sum(w.numpy().size for w in model.weights) == sum(w.numpy().size for w in source.weights)
    # Compared with what Keras 2 itself loads: the file keeps the flags of layers, not that of a nested Sequential.
    again = tf_keras.models.load_model(tmp_path / "model.h5", compile=False)
    assert len(model.trainable_weights) == len(again.trainable_weights)

    def fake(tensor):
        shape = (3, *tensor.shape[1:])
        return rng.integers(0, 20, shape).astype("float32") if build is embedding else rng.normal(size=shape)

    x = tf.nest.map_structure(fake, source.input)
    expected = tf.nest.map_structure(np.asarray, source(x, training=False))
    received = keras.tree.map_structure(np.asarray, model(x, training=False))
    keras.tree.assert_same_structure(expected, received)
    for e, r in zip(keras.tree.flatten(expected), keras.tree.flatten(received)):
        np.testing.assert_allclose(r, e, atol=1e-3 if build is mixed_precision else 1e-5)


def test_a_loaded_keras2_model_is_saved_and_loaded_by_keras(tmp_path):
    for build in (conv, recurrent, tensor_ops):
        save_h5(build(), tmp_path / "model.h5")
        model = load_model(tmp_path / "model.h5")
        model.save(tmp_path / "model.keras")
        again = load_model(tmp_path / "model.keras")
        for before, after in zip(model.weights, again.weights):
            np.testing.assert_array_equal(before.numpy(), after.numpy())


@pytest.mark.parametrize("name", sorted(zoo.ZOO))
def test_keras_files_come_back(name, tmp_path):
    source = zoo.ZOO[name]()
    source.save(tmp_path / "model.keras")
    model = load_model(tmp_path / "model.keras")
    x = zoo.sample(name)
    pairs = zip(keras.tree.flatten(source(x, training=False)), keras.tree.flatten(model(x, training=False)))
    for expected, received in pairs:
        np.testing.assert_array_equal(received, expected)
    assert not model.compiled


@pytest.mark.parametrize("name", ["sequential", "residual", "nested", "shared_layer", "multi_io", "lstm"])
def test_keras3_h5_gives_single_tensors(name, tmp_path):
    source = zoo.ZOO[name]()
    save_h5(source, tmp_path / "model.h5")
    model = load_model(tmp_path / "model.h5")
    x = zoo.sample(name)
    expected, received = source(x, training=False), model(x, training=False)
    keras.tree.assert_same_structure(expected, received)
    for e, r in zip(keras.tree.flatten(expected), keras.tree.flatten(received)):
        np.testing.assert_allclose(r, e, atol=1e-6)


class Doubler(keras.layers.Layer):
    """Not registered: load_model has to be told."""

    def call(self, x):
        return 2.0 * x


class OldDoubler(tf_keras.layers.Layer):
    def call(self, x):
        return 2.0 * x


def test_custom_objects_are_asked_for_by_name_and_used(tmp_path):
    keras.Sequential([keras.Input((3,)), Doubler()]).save(tmp_path / "new.keras")
    with pytest.raises(FileError, match=r"new\.keras: .*custom_objects=\{'Doubler': Doubler\}"):
        load_model(tmp_path / "new.keras")
    model = load_model(tmp_path / "new.keras", custom_objects={"Doubler": Doubler})
    np.testing.assert_array_equal(model(np.ones((1, 3))), 2 * np.ones((1, 3)))

    inputs = Input((3,))
    save_h5(tf_keras.Model(inputs, OldDoubler(name="twice")(inputs)), tmp_path / "old.h5")
    with pytest.raises(ValueError, match=r"old\.h5: layer 'twice' \(OldDoubler\): .*custom_objects"):
        load_model(tmp_path / "old.h5")
    model = load_model(tmp_path / "old.h5", custom_objects={"OldDoubler": Doubler})
    np.testing.assert_array_equal(model(np.ones((1, 3))), 2 * np.ones((1, 3)))


def test_code_in_the_file_is_not_run_by_default(tmp_path):
    keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2)]).save(tmp_path / "new.keras")
    inputs = Input((3,))
    save_h5(tf_keras.Model(inputs, L.Lambda(lambda x: x * 2, name="code")(inputs)), tmp_path / "old.h5")
    with pytest.raises(FileError, match="safe_mode=False"):
        load_model(tmp_path / "new.keras")
    with pytest.raises(ValueError, match=r"'code' \(Lambda\).*safe_mode=False"):
        load_model(tmp_path / "old.h5")
    for name in ("new.keras", "old.h5"):
        model = load_model(tmp_path / name, safe_mode=False)
        np.testing.assert_array_equal(model(np.ones((1, 3))), 2 * np.ones((1, 3)))
        with pytest.raises((FileError, ValueError), match="safe_mode"):  # and not from then on
            load_model(tmp_path / name)
    code = (
        "import sys, keras, numpy as np; from tfgreen.model.keras2.load import load_model\n"
        "keras.config.enable_unsafe_deserialization()\n"
        "assert all((load_model(path)(np.ones((1, 3))) == 2).numpy().all() for path in sys.argv[1:])"
    )
    paths = [str(tmp_path / "new.keras"), str(tmp_path / "old.h5")]
    subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True, text=True)


def edited(path, change):
    """Rewrite the model config of an .h5 file."""
    with h5py.File(path, "a") as archive:
        config = json.loads(archive.attrs["model_config"])
        change(config["config"]["layers"])
        archive.attrs["model_config"] = json.dumps(config)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda layers: layers[1]["config"].update(time_major=True), r"'rnn' \(LSTM\): expected time_major = False"),
        (lambda layers: layers[1]["config"].update(units=7), r"layer 'rnn' \(LSTM\): expected shape \(4, 28\)"),
        (lambda layers: layers[1]["config"].update(nonsense=1), r"layer 'rnn' \(LSTM\): .*nonsense"),
        (lambda layers: layers[2]["config"].update(function="signal.fft"), r"layer 'tf.nn.relu' .*tf.signal.fft"),
        (lambda layers: layers[1].update(inbound_nodes=[[["tf.nn.relu", 0, 0, {}]]]), "never computed"),
        (lambda layers: layers[1].pop("inbound_nodes"), "damaged: 'inbound_nodes'"),
    ],
)
def test_what_cannot_be_loaded_is_named(change, message, tmp_path):
    tf_keras.backend.clear_session()  # so that the op is called tf.nn.relu
    inputs = Input((5, 4))
    save_h5(tf_keras.Model(inputs, tf.nn.relu(L.LSTM(3, name="rnn")(inputs))), tmp_path / "model.h5")
    edited(tmp_path / "model.h5", change)
    with pytest.raises(TfgreenError, match=message) as caught:
        load_model(tmp_path / "model.h5")
    assert "model.h5" in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_hold_no_model_say_what_was_expected(tmp_path):
    model = zoo.functional()
    model.save_weights(tmp_path / "only.weights.h5")
    (tmp_path / "random.h5").write_bytes(np.random.default_rng(0).bytes(2000))
    (tmp_path / "random.keras").write_bytes(b"PK" + np.random.default_rng(0).bytes(2000))
    (tmp_path / "empty.keras").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with zipfile.ZipFile(tmp_path / "two.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))
    model.save(tmp_path / "whole.keras")
    (tmp_path / "whole.zip").write_bytes((tmp_path / "whole.keras").read_bytes())
    save_h5(model, tmp_path / "whole.h5")
    (tmp_path / "cut.keras").write_bytes((tmp_path / "whole.keras").read_bytes()[:3000])
    (tmp_path / "cut.h5").write_bytes((tmp_path / "whole.h5").read_bytes()[:3000])
    for name, message in {
        "absent.keras": "no such file",
        ".": "received a folder",
        "only.weights.h5": "weights only",
        "random.h5": "neither a zip archive nor HDF5",
        "random.keras": "neither a zip archive nor HDF5",
        "empty.keras": "neither a zip archive nor HDF5",
        "other.keras": "zip archive without config.json",
        "two.keras": "received one of Keras 2.15.0",
        "whole.zip": "expected the suffix .keras",
        "cut.h5": "damaged",
        "cut.keras": "a damaged zip archive, which may have been cut short",
    }.items():
        with pytest.raises(FileError, match=message) as caught:
            load_model(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(TypeError, match="received int"):
        load_model(3)


def double(x):
    return 2.0 * x


class MyOnes(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None, **kwargs):
        return keras.ops.ones(shape, dtype)

    def get_config(self):
        return {}


MyOnes.__module__ = "elsewhere"  # Keras imports the module that a class comes from


class OldOnes(tf_keras.initializers.Initializer):
    def __call__(self, shape, dtype=None, **kwargs):
        return tf.ones(shape, dtype)


LACKING = {
    "function.keras": lambda: keras.layers.Dense(2, activation=double),
    "function.h5": lambda: keras.layers.Activation(double),
    "initializer.keras": lambda: keras.layers.Dense(2, kernel_initializer=MyOnes()),
    "old function.h5": lambda: L.Dense(2, activation=double),
    "old initializer.h5": lambda: L.Dense(2, kernel_initializer=OldOnes()),
}


@pytest.mark.parametrize("name", LACKING)
def test_a_function_or_initializer_that_is_not_known_is_asked_for_by_name(name, tmp_path):
    library, path = tf_keras if name.startswith("old") else keras, tmp_path / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.Sequential([library.Input((3,)), LACKING[name]()]).save(path)
    with pytest.raises(TfgreenError, match=r"custom_objects=\{'(\w+)': \1\}") as caught:
        load_model(path)
    asked = re.search(r"custom_objects=\{'(\w+)'", str(caught.value))[1]
    model = load_model(path, custom_objects={asked: {"double": double, "MyOnes": MyOnes, "OldOnes": MyOnes}[asked]})
    assert model(np.ones((1, 3))).shape[0] == 1


@pytest.mark.parametrize("nested", [False, True])
def test_a_sequential_whose_config_is_a_list_of_layers_loads(nested, tmp_path):
    """Keras wrote it so before 2.2.3."""
    inner = tf_keras.Sequential([Input((3,)), L.Dense(4, "relu")], name="inner")
    model = tf_keras.Sequential([Input((3,)), *([inner] if nested else inner.layers), L.Dense(2)])
    save_h5(model, tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "a") as archive:
        config = json.loads(archive.attrs["model_config"])
        for entry in [config, *config["config"]["layers"]]:
            if entry["class_name"] == "Sequential":
                shape, *layers = entry["config"]["layers"]
                layers[0]["config"]["batch_input_shape"] = shape["config"]["batch_input_shape"]
                entry["name"], entry["config"] = entry["config"]["name"], layers
        archive.attrs["model_config"] = json.dumps(config)
        archive.attrs["keras_version"] = "2.1.6"
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    np.testing.assert_allclose(load_model(tmp_path / "old.h5")(x), model(x), atol=1e-6)


def test_what_to_do_with_a_keras_archive_of_keras_2_works(tmp_path, monkeypatch):
    model = tf_keras.Sequential([Input((3,)), L.Dense(2)])
    model.save(tmp_path / "model.keras")
    with pytest.raises(FileError, match="one of Keras 2") as caught:
        load_model(tmp_path / "model.keras")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(re.search(r'python -c "(.*)"', str(caught.value))[1])
    np.testing.assert_allclose(load_model("model.h5")(np.ones((1, 3))), model(np.ones((1, 3))), atol=1e-6)


def test_a_file_of_keras_1_is_named_as_such(tmp_path):
    save_h5(tf_keras.Sequential([Input((3,)), L.Dense(2)]), tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "a") as archive:
        archive.attrs["keras_version"] = "1.2.2"
    with pytest.raises(FileError, match=r"one of Keras 1\.2\.2.*2\.2\.4"):
        load_model(tmp_path / "old.h5")
