from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg

USED = [0, 5, 17, 3, 49]


def classifier(mask_zero: bool = False) -> keras.Model:
    tokens, segments = (keras.Input((6,), dtype="int32", name=name) for name in ("tokens", "segments"))
    x = layers.Embedding(50, 8, mask_zero=mask_zero, name="table")(tokens)
    x = layers.Add()([x, layers.Embedding(2, 8, name="segment_table")(segments)])
    x = layers.MultiHeadAttention(2, 4)(x, x)
    return keras.Model([tokens, segments], layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def language_model(tied: bool) -> keras.Model:
    tokens = keras.Input((6,), dtype="int32")
    table = layers.ReversibleEmbedding(50, 8, tie_weights=tied, name="table")
    x = layers.Dense(8, activation="relu")(table(tokens))
    return keras.Model(tokens, table(x, reverse=True))


@keras.saving.register_keras_serializable(package="tests")
class TokensAndPlaces(layers.Layer):
    """A table within a block that counts its tokens itself."""

    def __init__(self, vocabulary_size: int, width: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size, self.width = vocabulary_size, width
        self.token_embedding = layers.Embedding(vocabulary_size, width)
        self.places = layers.Embedding(6, width)

    def build(self, shape: tuple[int, ...]) -> None:
        self.token_embedding.build(shape)
        self.places.build(shape)

    def call(self, tokens: keras.KerasTensor) -> keras.KerasTensor:
        return self.token_embedding(tokens) + self.places(ops.arange(6))

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "vocabulary_size": self.vocabulary_size, "width": self.width}


def ids(count: int = 4) -> np.ndarray:
    return np.random.default_rng(1).integers(0, len(USED), (count, 6)).astype("int32")


@pytest.mark.parametrize("mask_zero", [False, True])
def test_outputs_are_equal_and_only_the_table_is_smaller(mask_zero, tmp_path):
    model, new = classifier(mask_zero), ids()
    before, segments = model.get_weights(), new % 2
    small = tg.trim_vocabulary(model, USED)
    expected = model([np.array(USED)[new], segments])
    np.testing.assert_allclose(small([new, segments]), expected, rtol=1e-6, atol=1e-6)
    assert model.count_params() - small.count_params() == 45 * 8
    small.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded([new, segments]), small([new, segments]))
    for old, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_the_same_table_are_those_of_the_used_tokens(tied, tmp_path):
    model, new = language_model(tied), ids()
    small = tg.trim_vocabulary(model, USED)
    assert small.output_shape == (None, 6, 5)
    expected = np.asarray(model(np.array(USED)[new]))[..., USED]
    np.testing.assert_allclose(small(new), expected, rtol=1e-5, atol=1e-6)
    small.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(new), small(new))


def test_a_table_within_a_block_is_found_and_saved(tmp_path):
    tokens = keras.Input((6,), dtype="int32")
    model = keras.Model(tokens, layers.Dense(2)(TokensAndPlaces(50, 8, name="block")(tokens)))
    small = tg.trim_vocabulary(model, USED)
    np.testing.assert_allclose(small(ids()), model(np.array(USED)[ids()]), rtol=1e-5, atol=1e-6)
    small.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(ids()), small(ids()))


def test_an_adapter_goes_with_its_table():
    tokens = keras.Input((6,), dtype="int32")
    table = layers.Embedding(50, 8)
    model = keras.Model(tokens, layers.Dense(2)(table(tokens)))
    table.enable_lora(2)
    table.lora_embeddings_b.assign(np.ones((2, 8)))
    for small in (tg.merge_lora(tg.trim_vocabulary(model, USED)), tg.trim_vocabulary(tg.merge_lora(model), USED)):
        np.testing.assert_allclose(small(ids()), model(np.array(USED)[ids()]), rtol=1e-5, atol=1e-6)


def test_the_file_shrinks_by_the_share_of_the_table():
    tokens = keras.Input((6,), dtype="int32")
    model = keras.Model(tokens, layers.Dense(2)(layers.Flatten()(layers.Embedding(2000, 16)(tokens))))
    sizes = [tg.convert(m).size_bytes for m in (model, tg.trim_vocabulary(model, range(200)))]
    assert sizes[0] - sizes[1] == pytest.approx(1800 * 16 * 4, rel=0.02)


@pytest.mark.parametrize(("used", "message"), [
    ([0, 50], r"used_ids: expected ids from 0 to 49 \(layer 'table'.*received \[50\]"),
    ([0, -1], r"received \[-1\]"),
    ([0, 3, 3], r"each once, received \[3\] more than once"),
    ([], "a list of ids, each once"),
    ([[0, 1]], "a list of ids, each once"),
    ([3, 0], "0 first, which layer 'table'.*received 3 first. Put 0 before the others"),
])
def test_ids_that_cannot_be_kept_are_said(used, message):
    with pytest.raises(ValueError, match=message):
        tg.trim_vocabulary(classifier(mask_zero=True), used)


def test_models_and_layers_that_do_not_fit_are_said():
    with pytest.raises(TypeError, match="used_ids: expected integers"):
        tg.trim_vocabulary(classifier(), ["the", "a"])
    with pytest.raises(ValueError, match="has no Embedding"):
        tg.trim_vocabulary(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), [0])
    with pytest.raises(ValueError, match=r"layer: expected the path of an Embedding, one of \['table', 'segment_t"):
        tg.trim_vocabulary(classifier(), USED, layer="dense")
    with pytest.raises(ValueError, match=r"compressed.*tg\.strip\(model\) first"):
        tg.trim_vocabulary(tg.prune(classifier()), USED)
    tokens = keras.Input((6,), dtype="int32")
    computed = keras.Model(tokens, layers.Embedding(50, 3, name="table")((tokens * 7) % 50))
    with pytest.raises(ValueError, match=r"layer 'table' \(Embedding\) looks up what the model computes"):
        tg.trim_vocabulary(computed, USED)
    x = layers.Embedding(50, 3, name="table")(tokens)
    twice = keras.Model(tokens, x * ops.cast(ops.expand_dims(ops.equal(tokens, 17), -1), "float32"))
    with pytest.raises(ValueError, match="outputs of model.*are off.*reads the ids in another place too"):
        tg.trim_vocabulary(twice, USED)
    two = keras.Model(tokens, [layers.Embedding(50, 3, name="a")(tokens), layers.Embedding(50, 3, name="b")(tokens)])
    with pytest.raises(ValueError, match=r"several Embeddings of 50 rows: \['a', 'b'\].*layer='a'"):
        tg.trim_vocabulary(two, USED)


def test_a_model_of_open_length_with_few_positions():
    tokens = keras.Input((None,), dtype="int32")
    places = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
    x = layers.Embedding(50, 8, name="table")(tokens) + layers.Embedding(5, 8, name="places")(places)
    model = keras.Model(tokens, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))
    new = ids()[:, :5]
    np.testing.assert_allclose(tg.trim_vocabulary(model, USED)(new), model(np.array(USED)[new]), rtol=1e-5, atol=1e-6)
