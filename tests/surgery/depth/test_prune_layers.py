from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.surgery.depth.cases import encoder

VALUES = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")


def test_the_layers_that_do_least_go_first():
    blocks = [layers.Dense(8, kernel_initializer="identity", name=f"block_{number}") for number in range(4)]
    model = keras.Sequential([keras.Input((8,)), *blocks])
    for number, factor in ((0, 1.5), (2, 3.0), (3, 1.1)):
        blocks[number].kernel.assign(factor * np.eye(8))
    left = [[layer.name for layer in tg.prune_layers(model, VALUES, layers=n).layers] for n in (3, 2, 1)]
    assert left == [["block_0", "block_2", "block_3"], ["block_0", "block_2"], ["block_2"]]


@pytest.mark.slow
def test_it_is_never_further_off_than_layers_at_random_and_leaves_the_model_alone():
    keras.utils.set_random_seed(0)
    model, x = encoder(4), np.random.default_rng(0).integers(1, 20, (32, 6)).astype("int32")
    for number in (1, 3):  # these do nearly nothing
        for name in (f"out_{number}", f"attention_{number}"):
            for weight in model.get_layer(name).weights:
                weight.assign(0.01 * weight)
    before = model.get_weights()
    small = tg.prune_layers(model, [x], layers=2)
    kept = {layer.name for layer in small.layers}
    assert {"attention_0", "attention_2"} <= kept and not {"attention_1", "attention_3"} & kept
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    assert np.abs(np.asarray(small(x)) - np.asarray(model(x))).max() < 0.1


def test_bad_arguments():
    model = encoder(3)
    with pytest.raises(ValueError, match="layers.*<= 3, received 4"):
        tg.prune_layers(model, np.ones((4, 6), "int32"), layers=4)
    with pytest.raises(ValueError, match="calibration_data"):
        tg.prune_layers(model, np.ones((4, 5), "int32"), layers=1)
    with pytest.raises(ValueError, match="repeats no blocks"):
        tg.prune_layers(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), np.ones((4, 3)), layers=1)
