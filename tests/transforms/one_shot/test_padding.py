"""What calibration data pads does not count in one-shot pruning, GPTQ and AWQ."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tfgreen.model.internals import with_keras_mask
from tfgreen.structure import CallSpec, InputSpec
from tfgreen.transforms.one_shot.padding import Padding

LENGTH, WIDTH, IDS = 12, 16, 20


def by_input() -> keras.Model:
    """A small transformer that takes tokens and a mask, as KerasHub's do."""
    ids = keras.Input((LENGTH,), dtype="int32", name="token_ids")
    mask = keras.Input((LENGTH,), dtype="int32", name="padding_mask")
    x = layers.Embedding(IDS, WIDTH)(ids)
    attention = layers.MultiHeadAttention(2, 8)
    x = x + attention(x, x, attention_mask=ops.expand_dims(mask, 1))
    return keras.Model({"token_ids": ids, "padding_mask": mask}, layers.Dense(IDS)(layers.Dense(32, "relu")(x)))


def by_keras() -> keras.Model:
    ids = keras.Input((LENGTH,), dtype="int32", name="token_ids")
    x = layers.Embedding(IDS, WIDTH, mask_zero=True)(ids)
    return keras.Model(ids, layers.Dense(4)(layers.Dense(32, "relu")(x)))


VERBS = {
    "wanda": lambda model, x: tg.prune(model, criterion="wanda", calibration_data=x),
    "sparsegpt": lambda model, x: tg.prune(model, criterion="sparsegpt", calibration_data=x),
    "gptq": lambda model, x: tg.quantize_weights(model, bits=4, group_size=8, method="gptq", calibration_data=x),
    "awq": lambda model, x: tg.quantize_weights(model, bits=4, group_size=8, method="awq", calibration_data=x),
}


def equal(one: keras.Model, other: keras.Model) -> bool:
    pairs = zip(tg.strip(one).get_weights(), tg.strip(other).get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def data(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    ids = rng.integers(1, IDS, (count, LENGTH)).astype("int32")
    return ids, (np.arange(LENGTH) < rng.integers(2, 5, (count, 1))).astype("int32")


@pytest.mark.parametrize("verb", VERBS)
def test_ids_that_a_mask_leaves_out_change_no_weight(verb):
    model, (ids, mask) = by_input(), data()
    some, others, all_of_them = ({"token_ids": i, "padding_mask": m} for i, m in (
        (ids * mask, mask), (ids, mask), (ids, np.ones_like(mask)),
    ))  # fmt: skip
    assert equal(VERBS[verb](model, some), VERBS[verb](model, others))
    assert not equal(VERBS[verb](model, others), VERBS[verb](model, all_of_them))


def test_a_mask_of_keras_leaves_out_what_it_masks():
    model, (ids, mask) = by_keras(), data()
    count = mask.sum()
    padded, rows = ids * mask, (ids * mask)[mask == 1]
    short = np.zeros((count, LENGTH), "int32")
    short[:, 0] = rows  # the same tokens, each alone: a dense layer sees no others
    assert equal(VERBS["wanda"](model, padded), VERBS["wanda"](model, short))


def test_of_two_masks_that_of_the_encoder_is_the_encoders():
    shapes = {"encoder_padding_mask": (2,), "decoder_padding_mask": (2,)}
    spec = CallSpec(list(shapes), tuple(InputSpec(name, shape, "int32") for name, shape in shapes.items()))
    batch = {"encoder_padding_mask": np.array([[1, 0]]), "decoder_padding_mask": np.array([[0, 1]])}
    padding, x = Padding(spec, batch), np.ones((1, 2, 3), "float32")
    found = {
        path: np.asarray(padding.removed(path, (x,), {"other": 3})[0][0])[0, :, 0].tolist()
        for path in ("transformer_encoder_0/dense", "decoder/dense", "head")
    }
    assert list(found.values()) == [[1, 0], [0, 1], [1, 1]]
    masked = with_keras_mask(ops.convert_to_tensor(x), ops.convert_to_tensor([[True, False]]))
    assert np.asarray(padding.removed("decoder", (masked,), {})[0][0])[0, :, 0].tolist() == [1, 0]


def test_what_is_no_sequence_of_that_length_stays():
    spec = CallSpec(["padding_mask"], (InputSpec("padding_mask", (4,), "int32"),))
    padding = Padding(spec, {"padding_mask": np.zeros((2, 4), "int32")})
    for x in (np.ones((2, 4), "float32"), np.ones((2, 5, 3), "float32"), np.ones((2, 4, 1), "int32")):
        assert padding.removed("dense", (x,), {})[0][0] is x
