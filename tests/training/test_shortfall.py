"""shortfall: what is said of masks that did not come to the end of their schedules."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tfgreen.training.shortfall import shortfall

X, Y = np.random.default_rng(0).normal(size=(64, 8)).astype("float32"), np.ones((64, 4), "float32")


def pruned(schedule, **options) -> keras.Model:
    model = tg.prune(keras.Sequential([keras.Input((8,)), layers.Dense(4, name="out")]), schedule=schedule, **options)
    model.compile("sgd", "mse")
    return model


def fit(model: keras.Model, *callbacks: keras.callbacks.Callback, epochs: int = 1) -> None:
    model.fit(X, Y, batch_size=16, epochs=epochs, verbose=0, callbacks=[tg.UpdateCompression(), *callbacks])


@pytest.mark.parametrize("schedule, text", [
    (tg.PolynomialDecay(0.25, 0.75, begin_step=0, end_step=100), r"25\.0 % after 4 .* goes on to 75\.0 % at step 100"),
    (tg.ConstantSparsity(0.5, begin_step=9), r"0\.0 % after 4 .* goes on to 50\.0 % at step 9"),
    (lambda step: 0.5 if step > 50 else 0.0, r"0\.0 % after 4 .* no update of their schedule"),
])
def test_training_that_ends_before_the_schedule_says_so_as_do_summary_and_strip(schedule, text):
    model = pruned(schedule)
    with pytest.warns(UserWarning, match=text):
        fit(model)
    assert shortfall(model) in str(tg.summary(model))
    with pytest.warns(UserWarning, match=text):
        tg.strip(model)


@pytest.mark.parametrize("schedule, options", [
    (tg.PolynomialDecay(0.25, 0.75, begin_step=0, end_step=4), {}),
    (tg.ConstantSparsity(0.5, begin_step=0), {}),
    (tg.ConstantSparsity(0.0, begin_step=0), {}),
    (tg.ConstantSparsity(0.5, begin_step=100), {"criterion": "threshold", "threshold": 0.0}),
])
def test_nothing_is_said_of_a_schedule_that_ended_or_has_no_end(schedule, options):
    model = pruned(schedule, **options)
    fit(model)
    tg.strip(model)
    assert shortfall(model) == ""


class Worse(keras.callbacks.Callback):
    """The first epoch is the best."""

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = float(epoch)


def test_restored_weights_keep_the_zeros_of_their_epoch_which_strip_says():
    model = pruned(tg.PolynomialDecay(0.25, 0.75, begin_step=0, end_step=8, frequency=4))
    stop = keras.callbacks.EarlyStopping("score", mode="min", patience=2, restore_best_weights=True)
    fit(model, Worse(), stop, epochs=3)  # and is not heard of in fit: the schedule has ended by then
    mask = model.get_layer("out").chains[0].transforms[0]
    np.testing.assert_array_equal(mask.mask.numpy(), model.get_layer("out").layer.kernel.numpy() != 0)
    with pytest.warns(UserWarning, match="after 4 training steps; their schedule goes on to 75.0 % at step 8"):
        plain = tg.strip(model)
    np.testing.assert_allclose(plain(X), model(X), atol=1e-6)
    assert tg.convert(model).notes == (shortfall(model),)


def test_the_sentence_at_the_end_of_training_is_of_restored_weights_if_they_come_first():
    model = pruned(tg.PolynomialDecay(0.25, 0.75, begin_step=0, end_step=8, frequency=4))
    stop = keras.callbacks.EarlyStopping("score", mode="min", patience=2, restore_best_weights=True)
    callbacks = [Worse(), stop, tg.UpdateCompression()]
    with pytest.warns(UserWarning, match="after 4 training steps; .* listed after tg.UpdateCompression.. may still"):
        model.fit(X, Y, batch_size=16, epochs=3, verbose=0, callbacks=callbacks)


def test_a_loop_that_forgets_to_step_is_heard_of():
    model = pruned(tg.PolynomialDecay(0.0, 0.75, begin_step=0, end_step=2, frequency=1))
    tg.UpdateCompression(model)
    for _ in range(3):
        model(X, training=True)
    with pytest.warns(UserWarning, match="after 0 training steps; their schedule goes on"):
        tg.strip(model)


def test_of_channels_the_share_is_that_of_what_goes():
    parts = [layers.Dense(16, "relu"), layers.Dense(16, "relu"), layers.Dense(4, name="out")]
    model = keras.Sequential([keras.Input((8,)), *parts])
    schedule = tg.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=8, power=1, frequency=1)
    masked = tg.mask_channels(model, schedule, round_to=1, scope="uniform")
    masked.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="of the weights of the channels that go after 4 .*; the rest goes by step 8"):
        fit(masked)
    share = float(re.search("hold ([0-9.]+) %", shortfall(masked))[1])
    assert 40 < share < 70  # half of the channels, some weights of which are in two of them
    fit(masked)
    assert shortfall(masked) == ""
