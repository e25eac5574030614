from __future__ import annotations

import keras
import numpy as np
import pytest

from tfgreen.distillation.keras_losses import checked_loss, keras_values


def test_a_setting_is_a_name_an_object_or_one_for_each_output():
    own = ["mse"]
    assert checked_loss("mse", own) == "mse" and checked_loss("huber", own) == "huber"
    assert checked_loss([None, "mse"], own) == (None, "mse")
    assert checked_loss({"a": "mse", "b": None}, own) == {"a": "mse", "b": None}
    kl = keras.losses.KLDivergence()
    assert checked_loss(kl, own, {keras.losses.KLDivergence: "kl"}) == "kl" and checked_loss(kl, own) is kl
    with pytest.raises(ValueError, match="'mse' or the name of another Keras loss"):
        checked_loss("no such loss", own)


def test_values_of_a_keras_loss_are_not_averaged():
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    got = keras_values(keras.losses.MeanAbsoluteError(), a, b)
    np.testing.assert_allclose(got, np.abs(a - b).mean(-1), rtol=1e-5)
