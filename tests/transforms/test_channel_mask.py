from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.errors import InvalidValueError
from tfgreen.transforms.channel_mask import ChannelMask


def built(importance: np.ndarray) -> ChannelMask:
    mask = ChannelMask(tg.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=10, frequency=1), importance=importance)
    mask.build((2, 4))
    return mask


def test_channels_go_when_the_sparsity_comes_to_them():
    mask, weight = built(np.array([[0.5, 2.0, 0.25, 2.0]], "float32")), np.ones((2, 4), "float32")
    ChannelMask.update_together([mask], [weight], ["w"], 0)
    assert mask.sparsity == 0
    middle = next(step for step in range(10) if 0.25 <= mask.schedule.sparsity_at(step) < 0.5)
    ChannelMask.update_together([mask], [weight], ["w"], middle)
    assert mask.mask.numpy().tolist() == [[True, True, False, True]] * 2
    ChannelMask.update_together([mask], [weight], ["w"], 10)
    assert mask.mask.numpy().tolist() == [[False, True, False, True]] * 2


def test_it_is_made_anew_from_its_config():
    mask = built(np.array([[0.5, 2.0, 0.25, 2.0]], "float32"))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(mask))
    again.set_weights(mask.get_weights())
    assert isinstance(again, ChannelMask) and again.importance.numpy().tolist() == [[0.5, 2.0, 0.25, 2.0]]


def test_weights_that_diverged_are_said():
    with pytest.raises(InvalidValueError, match="w"):
        ChannelMask.update_together([built(np.full((1, 4), 2.0, "float32"))], [np.full((2, 4), np.nan)], ["w"], 0)
