from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.errors import InvalidValueError

RNG = np.random.default_rng(0)


def transformer(width: int = 64) -> keras.Model:
    tokens = keras.Input((8,), dtype="int32", name="tokens")
    x = layers.Embedding(20, width, name="table")(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, width // 4, name="attention")(x, x))
    x = layers.Dense(width, activation="gelu", name="dense")(x)
    return keras.Model(tokens, layers.Dense(4, name="head")(layers.GlobalAveragePooling1D()(x)))


def tokens(count: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 20, (count, 8)).astype("int32")


def distance(model: keras.Model, other: keras.Model, x: np.ndarray) -> float:
    expected, got = model.predict(x, verbose=0), other.predict(x, verbose=0)
    return float(np.square(expected - got).mean() / expected.var())


def test_gptq_is_nearer_to_the_model_than_rounding_to_nearest_on_data_it_has_not_seen():
    model, unseen = transformer(), tokens(seed=9)
    settings = {"bits": 4, "group_size": 32}
    nearest = distance(model, tg.quantize_weights(model, **settings), unseen)
    gptq = distance(model, tg.quantize_weights(model, **settings, method="gptq", calibration_data=tokens(256)), unseen)
    assert gptq < 0.8 * nearest


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_other_calibration_data_gives_other_weights_and_the_same_gives_the_same(method):
    model = keras.Sequential([keras.Input((16,)), layers.Dense(8, name="out")])
    x = RNG.normal(size=(64, 16)).astype("float32")

    def kernel(data: np.ndarray) -> np.ndarray:
        rounded = tg.quantize_weights(model, bits=4, method=method, calibration_data=data)
        return tg.strip(rounded).get_layer("out").kernel.numpy()

    np.testing.assert_array_equal(kernel(x), kernel(x))
    assert np.abs(kernel(x) - kernel(x * np.linspace(0.1, 10, 16, dtype="float32"))).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rtn", "gptq", "awq"])
def test_it_trains_saves_loads_and_strips(method, tmp_path):
    model, x = transformer(), tokens()
    data = None if method == "rtn" else x
    rounded = tg.quantize_weights(model, bits=4, group_size=32, method=method, calibration_data=data)
    before = rounded.get_layer("dense").layer.kernel.numpy()
    rounded.compile("adam", "mse")
    rounded.fit(x, np.zeros((64, 4)), verbose=0)
    assert np.abs(rounded.get_layer("dense").layer.kernel.numpy() - before).max() > 0
    expected = rounded.predict(x, verbose=0)
    rounded.save(tmp_path / "rounded.keras")
    loaded = tg.load_model(tmp_path / "rounded.keras")
    for again in (loaded, tg.strip(loaded)):
        np.testing.assert_allclose(again.predict(x, verbose=0), expected, atol=1e-6)
    kernel = tg.strip(rounded).get_layer("dense").kernel.numpy()
    if method != "awq":  # of which each input has a scale of its own
        assert max(len(np.unique(group)) for group in kernel.T.reshape(-1, 32)) <= 15


def test_lora_is_rounded_with_its_weight():
    model, x = transformer(), tokens()
    model.get_layer("dense").enable_lora(2)
    model.get_layer("dense").lora_kernel_b.assign(RNG.normal(size=(2, 64)))
    for method in ("rtn", "gptq"):
        data = None if method == "rtn" else x
        rounded = tg.quantize_weights(model, method=method, calibration_data=data)
        assert distance(model, rounded, x) < 1e-3 and distance(rounded, tg.strip(rounded), x) < 1e-9


def test_tables_are_rounded_row_by_row_and_the_summary_says_what_was_done_to_each_weight():
    model, x = transformer(), tokens()
    rounded = tg.quantize_weights(model, method="gptq", calibration_data=x, layers={"head": None})
    assert rounded.get_layer("table").chains[0].transforms[0].scales.shape == (1, 20)
    rows = {(row.layer, row.weight): row for row in tg.summary(rounded).weights}
    assert "rounded to nearest: method='gptq'" in rows["table", "embeddings"].reason
    assert rows["attention", "query_dense/kernel"].done == ("IntegerWeights",) and not rows["dense", "kernel"].reason
    assert rows["head", "kernel"].done == () and "settings leave it out" in rows["head", "kernel"].reason


def test_a_weight_whose_outputs_have_one_input_each_stays_float():
    class Token(layers.Layer):
        def build(self, shape):
            self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

        def call(self, x):
            return x + self.token

    model = keras.Sequential([keras.Input((3, 32)), Token(name="class"), layers.Dense(4, name="out")])
    rounded = tg.quantize_weights(model, bits=4, group_size=16)
    found = {status.layer: status.text for status in tg.summary(rounded).weights}
    assert "each of its outputs has one weight" in found["class"] and found["out"] == "IntegerWeights"


def test_one_layer_may_have_settings_of_its_own():
    model = transformer()
    narrow = tg.QuantizeWeightsConfig(bits=4, group_size=16)
    rounded = tg.quantize_weights(model, layers={"den*": narrow})
    found = {layer: rounded.get_layer(layer).chains[0].transforms[0] for layer in ("dense", "head")}
    assert (found["dense"].bits, found["dense"].group_size) == (4, 16)
    assert (found["head"].bits, found["head"].group_size) == (8, None)


def test_what_cannot_be_rounded_is_an_error_with_a_remedy_that_works():
    model, x = transformer(), tokens()
    with pytest.raises(InvalidValueError, match=r"'dense'.*divides its 64 inputs.*received 48.*group_size=32"):
        tg.quantize_weights(model, bits=4, group_size=48, layers={"table": None, "attention": None})
    with pytest.raises(InvalidValueError, match=r"method='gptq' looks at.*calibration_data=x"):
        tg.quantize_weights(model, method="gptq")
    with pytest.raises(InvalidValueError, match="with method='rtn'.*method='gptq'"):
        tg.quantize_weights(model, calibration_data=x)
    with pytest.raises(InvalidValueError, match=r"= 25 is not in \[0, 20\).*Embedding.*ids that its tables have"):
        tg.quantize_weights(model, method="gptq", calibration_data=np.full((4, 8), 25))
    with pytest.raises(InvalidValueError, match="bits"):
        tg.quantize_weights(model, bits=5)
    rounded = tg.quantize_weights(model)
    for verb in (tg.quantize_weights, lambda model: tg.quantize(model, calibration_data=x)):
        with pytest.raises(InvalidValueError, match=r"is quantized already.*tg.strip"):
            verb(rounded)
    tg.quantize(tg.strip(rounded), calibration_data=x)
    with pytest.raises(InvalidValueError, match="NaN"):
        tg.quantize_weights(zoo.spoiled(float("nan")))


class Sequences(layers.Layer):
    """Positions that are added row by row, and a bias of several axes, as KerasHub's layers have."""

    def build(self, shape):
        self.embeddings = self.add_weight(shape=(50, shape[-1]), name="embeddings")
        self.attention_bias = self.add_weight(shape=(4, shape[-1]), name="attention_bias")

    def call(self, x):
        return x + self.embeddings[: keras.ops.shape(x)[1]] + keras.ops.sum(self.attention_bias, axis=0)


def test_a_table_of_positions_is_rounded_row_by_row_and_a_bias_is_none():
    inputs = keras.Input((10, 64))
    model = keras.Model(inputs, layers.Dense(4, name="dense")(Sequences(name="sequences")(inputs)))
    small = tg.quantize_weights(model, bits=4, group_size=32)  # 32 does not divide 50 positions
    chains = {chain.weight: chain.transforms[-1] for chain in small.get_layer("sequences").chains}
    assert list(chains) == ["embeddings"] and chains["embeddings"].scales.shape == (2, 50)


def test_a_row_of_a_table_that_is_shorter_than_a_group_has_one_scale():
    inputs = keras.Input((10, 16))
    model = keras.Model(inputs, layers.Dense(4, name="dense")(Sequences(name="sequences")(inputs)))
    small = tg.quantize_weights(model, bits=4, group_size=32, layers={"dense": None})
    (chain,) = small.get_layer("sequences").chains
    assert chain.transforms[-1].scales.shape == (1, 50)
    with pytest.raises(InvalidValueError, match="divides its 16 inputs"):
        tg.quantize_weights(model, bits=4, group_size=32)


def test_the_remedy_for_a_group_keeps_the_other_settings():
    model = keras.Sequential([keras.Input((64,)), layers.Dense(40, name="a"), layers.Dense(32, name="b")])
    x = np.random.default_rng(0).normal(size=(32, 64))
    with pytest.raises(InvalidValueError, match="divides its 40 inputs") as caught:
        tg.quantize_weights(model, bits=4, group_size=32, method="gptq", calibration_data=x)
    remedy = eval(str(caught.value).partition("layers=")[2].rstrip("."), {"tg": tg})
    assert remedy == {"b": tg.QuantizeWeightsConfig(bits=4, method="gptq", group_size=40)}
    tg.quantize_weights(model, bits=4, group_size=32, method="gptq", calibration_data=x, layers=remedy)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("method", ["rtn", "awq"])
def test_a_model_of_half_precision_computes_with_rounded_weights(dtype, method):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, dtype=dtype)])
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    data = {"calibration_data": x} if method == "awq" else {}
    small = tg.quantize_weights(model, bits=8, method=method, **data)
    expected, got = (np.asarray(one.predict(x, verbose=0), "float32") for one in (model, small))
    assert np.abs(expected - got).max() < 0.05 * np.abs(expected).max()


def test_a_block_whose_weights_stay_floats_in_the_file_is_named():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.sequences, self.dense = Sequences(name="sequences"), layers.Dense(4)

        def call(self, x):
            return self.dense(self.sequences(x))

    model = Own()
    model(np.zeros((1, 10, 64), "float32"))
    notes = tg.convert(tg.quantize_weights(model, bits=4, group_size=32)).notes
    assert any("layers ['sequences'] are stored as floats" in note for note in notes), notes
