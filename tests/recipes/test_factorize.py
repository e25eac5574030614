from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.errors import InvalidTypeError, InvalidValueError


def low_rank_model(rank: int = 6) -> keras.Model:
    """A wide layer of a low rank, one of full rank, and a small one."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((128,), name="x")
    x = layers.Dense(256, "relu", name="wide")(inputs)
    x = layers.Dense(128, "relu", name="full")(x)
    model = keras.Model(inputs, layers.Dense(4, name="head")(x))
    rng = np.random.default_rng(0)
    model.get_layer("wide").kernel.assign(rng.normal(size=(128, rank)) @ rng.normal(size=(rank, 256)) / 30)
    return model


def test_only_what_is_smaller_is_factorized(tmp_path):
    model = low_rank_model()
    x = np.random.default_rng(1).normal(size=(32, 128)).astype("float32")
    result = tg.factorize(model, measure="bytes", energy=0.9999)
    wide, full, head = result.layers
    assert (wide.path, wide.shape, wide.rank, wide.reason) == ("wide", (128, 256), 6, "")
    assert wide.bytes_after < wide.bytes_before / 5
    assert "would take more weights" in full.reason and "too small" in head.reason
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(result.model.predict(x, verbose=0), expected, atol=1e-4)
    assert [layer.name for layer in result.model.get_layer("wide").layers] == ["down", "up"]
    assert len(model.get_layer("wide").weights) == 2, "the model passed in has changed"
    lite, plain = tg.convert(result.model), tg.convert(model)
    assert lite.size_bytes < plain.size_bytes * 0.65
    np.testing.assert_allclose(lite.predict(x), expected, atol=1e-4)
    result.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), result.model.predict(x, verbose=0))
    assert repr(result) == "<Factorized: 1 of 3 layers factorized>"
    assert "too small" in str(result) and "<table" in result._repr_html_()
    assert result.to_dict()["layers"][0]["rank"] == 6


def test_data_says_which_directions_matter():
    """Inputs that fill four directions only need no more, whatever the kernel does to the others."""
    model = low_rank_model()
    rng = np.random.default_rng(2)
    x = (rng.normal(size=(256, 4)) @ rng.normal(size=(4, 128))).astype("float32")
    result = tg.factorize(model, measure="bytes", energy=0.999999, calibration_data=x, keep=("full",))
    assert [layer.path for layer in result.layers] == ["wide", "head"] and result.layers[0].rank <= 4
    np.testing.assert_allclose(result.model.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-3)


class Block(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Dense(256, "relu", name="first"), layers.EinsumDense("abc,cd->abd", (None, 64))

    def build(self, input_shape):
        self.first.build(input_shape)
        self.second.build((*input_shape[:-1], 256))

    def call(self, x):
        return x + self.second(self.first(x))


class Task(keras.Model):
    """A graph of a class of its own, as KerasHub's."""

    def __init__(self, **kwargs):
        inputs = keras.Input((None, 64))
        outputs = layers.Dense(3, name="head")(Block(name="two")(Block(name="one")(inputs)))
        super().__init__(inputs, outputs, **kwargs)


def test_layers_inside_a_task_and_its_blocks_are_factorized_and_other_blocks_stay_as_they_are(tmp_path):
    keras.utils.set_random_seed(0)
    model, rng = Task(), np.random.default_rng(0)
    x = rng.normal(size=(4, 5, 64)).astype("float32")
    model.get_layer("one").first.kernel.assign(rng.normal(size=(64, 3)) @ rng.normal(size=(3, 256)) / 10)
    result = tg.factorize(model, measure="bytes", energy=0.99999)
    assert {row.path.partition("/")[0] for row in result.layers} == {"one", "two", "head"}
    assert [row.path for row in result.layers if not row.reason] == ["one/first"]
    assert [layer.name for layer in result.model.get_layer("one").get_layer("first").layers] == ["down", "up"]
    assert isinstance(result.model.get_layer("two"), Block)
    np.testing.assert_allclose(result.model.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-4)
    result.model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras", custom_objects={"Block": Block})
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-4)
    assert not [row for row in tg.factorize(model, measure="bytes", keep=("one",)).layers if row.path[:3] == "one"]


class Outer(layers.Layer):
    """A block in a block, whose attributes and names differ."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.ffn = Block(name="feed_forward")

    def call(self, x):
        return x + self.ffn(x)


def test_a_block_in_a_block_is_factorized_and_kept_by_attributes_or_names():
    inputs = keras.Input((None, 64))
    model, rng = keras.Model(inputs, Outer(name="outer")(inputs)), np.random.default_rng(0)
    block = model.get_layer("outer").ffn
    block.first.kernel.assign(rng.normal(size=(64, 3)) @ rng.normal(size=(3, 256)) / 10)
    result = tg.factorize(model, measure="bytes", energy=0.99999)
    assert [row.path for row in result.layers if not row.reason] == ["outer/feed_forward/first"]
    assert result.model.count_params() < model.count_params() - 64 * 256 / 2, "what is told was not done"
    for pattern in ("outer/ffn", "outer/feed_forward", "outer/ffn/*", "outer/feed_forward/first"):
        kept = tg.factorize(model, measure="bytes", energy=0.99999, keep=(pattern,))
        assert kept.model.count_params() == model.count_params(), pattern
    with pytest.raises(InvalidValueError, match="keep.*'outer/fn'.*Did you mean"):
        tg.factorize(model, keep=("outer/fn",))


def test_a_layer_that_is_called_on_several_lengths_takes_any():
    dense = layers.EinsumDense("abc,cd->abd", (None, 64), name="shared")
    inputs = keras.Input((6, 64))
    outputs = layers.Concatenate(1)([dense(inputs), dense(inputs[:, :2])])
    model, rng = keras.Model(inputs, outputs), np.random.default_rng(0)
    dense.kernel.assign(rng.normal(size=(64, 2)) @ rng.normal(size=(2, 64)))
    result = tg.factorize(model, measure="bytes")
    assert result.layers[0].rank == 2 and not result.layers[0].reason
    x = rng.normal(size=(2, 6, 64)).astype("float32")
    np.testing.assert_allclose(result.model.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_latency_of_inputs_of_open_size_is_measured_on_the_data():
    inputs = keras.Input((None, None, 64))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(96, 1, name="wide")(inputs)))
    (row,) = tg.factorize(model, rank=4).layers
    assert "a size that is open: pass calibration_data" in row.reason and row.ms_before is None
    (row,) = tg.factorize(model, rank=4, measure="bytes").layers
    assert row.reason == "" and row.ms_before is None and row.bytes_before > row.bytes_after
    x = np.random.default_rng(0).normal(size=(4, 64, 64, 64)).astype("float32")
    result = tg.factorize(model, rank=4, calibration_data=x)
    assert result.layers[0].ms_before > 0.1 and result.layers[0].reason == ""  # of 64 x 64, not of one pixel
    assert result.model.input_shape == (None, None, None, 64)


def test_a_rank_of_ones_own_and_an_int8_file():
    result = tg.factorize(low_rank_model(), measure="bytes", rank=4, quantization="int8", keep=("full", "head"))
    assert result.layers[0].rank == 4 and result.layers[0].bytes_before < 40_000


@pytest.mark.parametrize(
    "options, words",
    [
        ({"energy": 0}, "energy"),
        ({"energy": 1.5}, "energy"),
        ({"rank": 0}, "rank"),
        ({"measure": "size"}, "measure"),
        ({"keep": ("nothing",)}, "'nothing'"),
        ({"quantization": "int4"}, "quantization"),
        ({"ratio": 2}, "ratio"),
    ],
)
def test_bad_settings_are_named(options, words):
    with pytest.raises((InvalidValueError, InvalidTypeError), match=words):
        tg.factorize(low_rank_model(), **options)


def test_a_compressed_model_is_refused_with_what_to_call():
    with pytest.raises(InvalidValueError, match=r"tg\.strip"):
        tg.factorize(tg.prune(zoo.sequential()))
