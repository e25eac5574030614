from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.distillation.padding import input_named, masked_positions, padding_input
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.internals import with_keras_mask

LOSS = tg.FeatureDistillation("mse", "a", "b")


def spec(*names: str):
    inputs = [keras.Input((None,), name=name) for name in names]
    return read_call_spec(keras.Model(inputs, keras.layers.Concatenate()(inputs)))


def test_the_input_is_found_by_its_name_or_stated():
    assert padding_input(LOSS, spec("token_ids", "padding_mask"), "layer/x") == "padding_mask"
    assert padding_input(LOSS, spec("ids", "attention_mask"), "layer/x") == "attention_mask"
    assert padding_input(LOSS, spec("ids", "other"), "layer/x") == ""
    stated = tg.LogitsDistillation(mask="other")
    assert padding_input(stated, spec("ids", "other"), "softmax/") == "other"
    with pytest.raises(ValueError, match="mask.*of .*'ids', 'other'.*received 'padding'"):
        padding_input(tg.LogitsDistillation(mask="padding"), spec("ids", "other"), "softmax/")


def test_of_two_the_one_whose_name_fits_or_none():
    two = spec("encoder_padding_mask", "decoder_padding_mask")
    assert padding_input(LOSS, two, "layer/transformer_decoder_layer_0") == "decoder_padding_mask"
    with pytest.raises(ValueError, match="which of the inputs .* says what is padding.*mask='encoder_padding_mask'"):
        padding_input(LOSS, two, "layer/middle")


def test_masks_add_up_where_they_fit():
    positions, padding = np.ones((2, 3), "float32"), np.array([[1, 1, 0], [1, 0, 0]])
    bearer = with_keras_mask(keras.ops.ones((2, 3, 4)), np.array([[0, 1, 1], [1, 1, 1]], bool))
    both = masked_positions(positions, bearer, padding)._keras_mask
    np.testing.assert_array_equal(both, [[0, 1, 0], [1, 0, 0]])
    assert masked_positions(positions, positions, np.ones((2, 5))) is positions  # of another length
    assert masked_positions(np.ones(2), np.ones(2), padding).shape == (2,)


def test_inputs_by_name_in_any_structure():
    x, y = np.zeros((1, 2)), np.ones((1, 2))
    assert input_named({"b": y, "a": x}, "b", spec("a", "b")) is y
    assert input_named([x, y], "b", spec("a", "b")) is y


def test_logits_of_tokens_leave_padding_out():
    from tests.distillation.transformers import batch, loss_of, transformer

    keras.utils.set_random_seed(0)
    teacher, student, x = transformer(8), transformer(8, blocks=2), batch()
    distiller = tg.Distiller(teacher, student, tg.LogitsDistillation(2.0), student_loss_weight=0)
    got, mask = loss_of(distiller, x), x["padding_mask"]
    p, q = (keras.ops.log_softmax(model(x) / 2.0).numpy().astype("float64") for model in (teacher, student))
    values = 4 * (np.exp(p) * (p - q)).sum(-1)
    assert got == pytest.approx((values * mask).sum() / mask.sum(), rel=1e-4)
