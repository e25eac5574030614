from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tfgreen.training.hardest_samples import HardestSamples


def network() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), layers.Dense(1, kernel_initializer="zeros", use_bias=False)])


LOSSES = {"name": "mse", "object": keras.losses.MeanSquaredError(), "function": keras.losses.mean_squared_error}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_only_the_samples_of_the_largest_loss_move_the_weights(loss):
    model = network()
    model.compile(keras.optimizers.SGD(1.0), loss)
    x = np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    y = np.array([[1.0], [5.0], [2.0], [4.0]], "float32")  # the loss of zeros is y squared
    run = tg.fit(model, (x, y), epochs=1, batch_size=4, keep_fraction=0.5, verbose=0)
    assert run.savings["keep_fraction"].startswith("off: ")  # one epoch is the last one
    full = model.get_weights()[0].ravel()
    np.testing.assert_allclose(full, 2 * np.array([5, 5, 2]) / 4)  # at the begin of the training: all samples
    model.set_weights([np.zeros((3, 1))])
    hardest = HardestSamples(model, 0.5, epochs=10)
    hardest.on_epoch_begin(5)
    hardest.step(model.train_step)((x, y))
    np.testing.assert_allclose(model.get_weights()[0].ravel(), 2 * np.array([4, 5, 0]) / 2)


def test_weights_of_samples_and_several_positions_go_along():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5, 3)), layers.Dense(4, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 5, 3)).astype("float32"), rng.integers(0, 4, (20, 5))
    run = tg.fit(model, (x, y, np.ones((20, 5))), epochs=10, batch_size=8, keep_fraction=0.3, accumulate=2, verbose=0)
    assert "hardest 30 %" in run.savings["keep_fraction"]
    assert np.isfinite(run.history["loss"]).all() and run.history["loss"][-1] < run.history["loss"][0] * 1.2


def test_the_fraction_is_one_but_in_the_middle_of_the_training():
    model = network()
    model.compile("sgd", "mse")
    hardest = HardestSamples(model, 0.25, epochs=10)
    assert [hardest.fraction_at(epoch) for epoch in (0, 4, 5, 8, 9)] == [1, 1, 0.25, 0.25, 1]
    hardest.epochs = 2
    assert [hardest.fraction_at(epoch) for epoch in (0, 1)] == [1, 1]  # the last epoch sees all samples


def test_several_outputs_and_losses_are_refused():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, [layers.Dense(1)(inputs), layers.Dense(2)(inputs)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="one output.*2 outputs"):
        HardestSamples(model, 0.5, epochs=4)
