from __future__ import annotations

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo


def assert_same_model(one: keras.Model, other: keras.Model) -> None:
    assert one.name == other.name
    for a, b in zip(one.weights, other.weights, strict=True):
        assert a.dtype == b.dtype
        a, b = keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)
        assert a.shape == b.shape and a.tobytes() == b.tobytes()


def halved(model: keras.Model) -> keras.Model:
    """Every second weight of each matrix at zero."""
    for variable in model.weights:
        if len(variable.shape) >= 2 and "float" in variable.dtype:
            variable.assign(variable * (np.arange(np.prod(variable.shape)) % 2).reshape(variable.shape))
    return model


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_kind_of_model_comes_back_bit_by_bit(name, tmp_path):
    clustered = tg.strip(tg.cluster(halved(zoo.ZOO[name]()), tg.ClusterConfig(number_of_clusters=5)))
    for model in (clustered, zoo.ZOO[name]()):
        model.compile("adam", loss=zoo.loss(name))  # not stored
        loaded = tg.load_compressed(tg.save_compressed(model, tmp_path / "m.npz"))
        assert_same_model(loaded, model)
        assert not loaded.compiled
        for a, b in zip(*(keras.tree.flatten(m(zoo.sample(name))) for m in (model, loaded)), strict=True):
            np.testing.assert_array_equal(a, b)


def dense(units: int = 256, **settings) -> keras.Model:
    return keras.Sequential([keras.Input((256,)), layers.Dense(units, name="out", **settings)])


def test_the_file_takes_the_bits_of_its_clusters(tmp_path):
    model = dense()
    plain = tg.save_compressed(model, tmp_path / "plain.npz").stat().st_size
    assert plain > 4 * 65536 * 0.8
    for clusters, bits in ((16, 4), (32, 5)):
        clustered = tg.strip(tg.cluster(model, tg.ClusterConfig(number_of_clusters=clusters)))
        size = tg.save_compressed(clustered, tmp_path / "clustered.npz").stat().st_size
        assert size < 65536 * bits / 8 + 4000
    sparse = tg.strip(tg.cluster(halved(model), tg.ClusterConfig(number_of_clusters=17)))
    size = tg.save_compressed(sparse, tmp_path / "sparse.npz").stat().st_size
    assert size < 65536 * (1 + 4 / 2) / 8 + 4000


def test_a_file_with_nothing_pickled_and_no_half_written_one(tmp_path):
    path = tg.save_compressed(dense(4), tmp_path / "m.npz")
    with zipfile.ZipFile(path) as file:
        assert sorted(file.namelist()) == ["header.npy", "weights.npy"]
    with np.load(path, allow_pickle=False) as arrays:
        header = json.loads(arrays["header"].tobytes())
    assert header["tfgreen_format"] == 2 and header["weights"]["out/kernel"]["shape"] == [256, 4]
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="cannot be written"):
        tg.save_compressed(dense(4), tmp_path / "missing" / "m.npz")


def test_half_precision_is_kept(tmp_path):
    for dtype in ("float16", "bfloat16", "mixed_float16"):
        model = dense(4, dtype=dtype)
        assert_same_model(tg.load_compressed(tg.save_compressed(model, tmp_path / "m.npz")), model)


def test_a_model_that_is_still_being_compressed_says_so(tmp_path):
    clustered = tg.cluster(zoo.functional(), tg.ClusterConfig(number_of_clusters=4))
    with pytest.raises(ValueError, match=r"layer 'hidden'.*tg.strip\(model\)"):
        tg.save_compressed(clustered, tmp_path / "m.npz")
    clustered = tg.cluster(zoo.subclassed(), tg.ClusterConfig(number_of_clusters=4))
    with pytest.raises(ValueError, match=r"tg.strip\(model\)"):
        tg.save_compressed(clustered, tmp_path / "m.npz")
    assert not list(tmp_path.iterdir())


def test_no_model_and_an_unbuilt_one(tmp_path):
    with pytest.raises(TypeError, match="a keras.Model.*received str"):
        tg.save_compressed("model.keras", tmp_path / "m.npz")
    with pytest.raises(ValueError, match="'unbuilt'.*keras.Input"):
        tg.save_compressed(keras.Sequential([layers.Dense(2)], name="unbuilt"), tmp_path / "m.npz")


def test_damaged_and_truncated_files_are_named(tmp_path):
    path = tg.save_compressed(dense(8), tmp_path / "m.npz")
    content = path.read_bytes()
    damaged = tmp_path / "damaged.npz"
    rng = np.random.default_rng(0)
    cut = [content[:end] for end in (0, 1, 10, 100, len(content) // 2, len(content) - 1)]
    flipped = []
    for place in rng.integers(0, len(content), 60):
        bytes_ = bytearray(content)
        bytes_[place] ^= 0x5A
        flipped.append(bytes(bytes_))
    refused = 0
    for bad in [*cut, b"not a model", b"PK" + bytes(100), *flipped]:
        damaged.write_bytes(bad)
        try:
            loaded = tg.load_compressed(damaged)
        except ValueError as error:
            assert "damaged.npz" in str(error)
            refused += 1
        else:
            assert_same_model(loaded, tg.load_compressed(path))  # a byte that says nothing, such as a date
    assert refused > 50
    with pytest.raises(OSError, match="missing.npz"):
        tg.load_compressed(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(ValueError, match="other.npz"):
        tg.load_compressed(tmp_path / "other.npz")


def _rewritten(path, change):
    with np.load(path, allow_pickle=False) as arrays:
        header, weights = json.loads(arrays["header"].tobytes()), arrays["weights"]
    change(header)
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), weights=weights)
    return path


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda h: h.update(tfgreen_format=3), "another format"),
        (lambda h: h["weights"].pop("out/bias"), "out/bias"),
        (lambda h: h["weights"]["out/bias"].update(shape=[9]), "out/bias"),
        (lambda h: h["weights"]["out/kernel"].update(form="gaps"), "out/kernel"),
        (lambda h: h["weights"]["out/kernel"].pop("form"), "out/kernel"),
        (lambda h: h["weights"]["out/kernel"].update(stored="all"), "out/kernel"),
        (lambda h: h.update(sha256="0"), "checksum"),
        (lambda h: h.pop("model"), "model"),
    ],
)
def test_a_header_that_does_not_fit_is_named(change, message, tmp_path):
    path = _rewritten(tg.save_compressed(dense(8), tmp_path / "m.npz"), change)
    with pytest.raises(ValueError, match=f"m.npz.*{message}"):
        tg.load_compressed(path)


def test_own_classes_come_by_name_and_code_only_if_it_is_trusted(tmp_path):
    class Mine(keras.layers.Dense):
        pass

    path = tg.save_compressed(keras.Sequential([keras.Input((3,)), Mine(2, name="out")]), tmp_path / "m.npz")
    with pytest.raises(ValueError, match="m.npz.*'Mine' is not known. Pass custom_objects="):
        tg.load_compressed(path)
    assert isinstance(tg.load_compressed(path, custom_objects={"Mine": Mine}).get_layer("out"), Mine)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: 2 * x), keras.layers.Dense(2)])
    path = tg.save_compressed(model, tmp_path / "m.npz")
    with pytest.raises(ValueError, match="Python code .*safe_mode=False"):
        tg.load_compressed(path)
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(tg.load_compressed(path, safe_mode=False)(x), model(x))


def test_a_keras_file_is_said_to_be_one(tmp_path):
    dense().save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="received a .keras file, for tg.load_model"):
        tg.load_compressed(tmp_path / "m.keras")


def relu(x):
    """Not Keras's."""
    return keras.ops.relu(x) - 1.0


def zeros(shape, dtype=None):
    """Not Keras's."""
    return keras.ops.ones(shape, dtype)


@pytest.mark.parametrize("options", [{"activation": relu}, {"bias_initializer": zeros}])
def test_a_function_that_would_come_back_as_keras_own_is_refused_until_it_is_registered(options, tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="out", **options)])
    with pytest.raises(ValueError, match="'out' .Dense.: its function '(relu|zeros)' bears the name .* register it"):
        tg.save_compressed(model, tmp_path / "m.npz")
    (function,) = options.values()
    keras.saving.register_keras_serializable(package="test_compressed_file")(function)
    loaded = tg.load_compressed(tg.save_compressed(model, tmp_path / "m.npz"))
    assert function in vars(loaded.layers[0]).values()
    np.testing.assert_array_equal(loaded(np.ones((1, 3))), model(np.ones((1, 3))))


def test_keras_own_functions_are_saved(tmp_path):
    for function in (keras.activations.relu, keras.ops.relu, "gelu"):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2, function)])
        assert tg.save_compressed(model, tmp_path / "m.npz").exists()


def test_what_keras_cannot_save_is_said(tmp_path):
    class Scaled(keras.regularizers.Regularizer):
        def __call__(self, x):
            return 0.1 * keras.ops.sum(x)

    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, kernel_regularizer=Scaled())])
    for unsaved in (model, keras.Sequential([keras.Input((3,)), layers.Dense(2, lambda x: x + 1)])):
        with pytest.raises(ValueError, match="Keras cannot save model .*get_config"):
            tg.save_compressed(unsaved, tmp_path / "m.npz")


@keras.saving.register_keras_serializable(package="test_compressed_file")
class Scale(layers.Layer):
    """Its config holds no name, so that Keras numbers it, and its weight, anew."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],))

    def call(self, x):
        return x * self.scale


@pytest.mark.parametrize("format_", [1, 2])
@pytest.mark.parametrize("made_before", [0, 1, 2])
def test_layers_that_keras_names_anew_get_their_own_weights(made_before, format_, tmp_path):
    second, first = Scale(), Scale()
    inner = keras.Sequential([keras.Input((3,)), first, second])
    model = keras.Sequential([keras.Input((3,)), inner, layers.Dense(2, name="out")])
    first.scale.assign([1.0, 2.0, 3.0])
    second.scale.assign([0.0, 0.0, 5.0])
    model.layers[-1].bias.assign([7.0, 8.0])
    path = tg.save_compressed(model, tmp_path / "m.npz")
    if format_ == 1:
        _rewritten(path, lambda header: (header.update(tfgreen_format=1), header.pop("state")))
    keras.backend.clear_session()  # as in another process
    for _ in range(made_before):
        Scale()
    loaded = tg.load_compressed(path)
    assert [layer.scale.numpy().tolist() for layer in loaded.layers[0].layers] == [[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]]
    x = np.ones((1, 3), "float32")
    np.testing.assert_array_equal(loaded(x), model(x))
