from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tfgreen.model.fingerprint import fingerprint
from tfgreen.model.rebuild import rebuild


def dense(units=2, activation="relu", dtype="float32", kernel=1.0):
    layer = layers.Dense(units, activation=activation, dtype=dtype)
    model = keras.Sequential([keras.Input((3,)), layer])
    layer.kernel.assign(np.full((3, units), kernel))
    return model


@pytest.mark.parametrize("name", zoo.ZOO)
def test_a_copy_has_the_hash_of_its_original_and_another_weight_another(name):
    model = zoo.ZOO[name]()
    copy = rebuild(model, lambda path, layer: layer)
    assert fingerprint(copy) == fingerprint(model)
    variable = copy.weights[0]
    variable.assign(variable.value + 1)
    assert fingerprint(copy) != fingerprint(model)


def test_what_a_model_computes_counts_and_names_do_not():
    assert fingerprint(dense()) == fingerprint(dense())  # whose layers are numbered on
    others = [dense(units=3), dense(activation="tanh"), dense(dtype="float64"), dense(kernel=2.0)]
    assert len({fingerprint(model) for model in (dense(), *others)}) == 5
