"""compress: what a verb returns, and what it says that the copy lacks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo

HALF = tg.ConstantSparsity(0.5, begin_step=0)


@keras.saving.register_keras_serializable(package="tests")
class OwnStep(zoo.TwoLayerNet):
    def train_step(self, data):
        return super().train_step(data)


def test_a_train_step_that_is_not_carried_over_is_heard_of():
    model = OwnStep(8)
    model(np.zeros((1, 6), "float32"))
    with pytest.warns(UserWarning, match=r"OwnStep.*train_step of its own.*tg.UpdateCompression\(model\).step\(\)"):
        tg.prune(model, tg.PruneConfig(schedule=HALF))


@keras.saving.register_keras_serializable(package="tests")
class OwnFunctional(keras.Model):
    def train_step(self, data):
        return {**super().train_step(data), "own": 1.0}


def test_a_functional_subclass_keeps_its_class_and_its_train_step():
    inputs = keras.Input((6,))
    model = OwnFunctional(inputs, layers.Dense(4, name="out")(inputs))
    pruned = tg.prune(model, tg.PruneConfig(schedule=HALF))
    assert type(pruned) is type(model)
    pruned.compile("sgd", "mse")
    data = np.ones((4, 6), "float32"), np.ones((4, 4), "float32")
    history = pruned.fit(*data, verbose=0, callbacks=[tg.UpdateCompression()])
    assert history.history["own"] == [1.0]
    assert (pruned.get_layer("out").layer.kernel.numpy() == 0).mean() == 0.5
