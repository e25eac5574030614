"""Self-distillation: each generation is new, and taught by the one before."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo


def test_each_generation_starts_anew_and_is_taught_by_the_one_before():
    model = zoo.functional()
    before = model.get_weights()
    x, y = zoo.sample("functional"), zoo.targets("functional")
    seen = []

    def train(distiller):
        seen.append((distiller.teachers[0], distiller.student, distiller.student.get_weights()))
        distiller.compile("sgd", "sparse_categorical_crossentropy")
        distiller.fit(x, y, verbose=0)

    students = tg.born_again(model, train, generations=3, alpha=0.2)
    assert [teacher for teacher, _, _ in seen] == [model, *students[:2]]
    assert [student for _, student, _ in seen] == students
    assert not np.allclose(seen[1][2][0], students[0].get_weights()[0])
    assert not np.allclose(seen[1][2][0], seen[0][2][0])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_input():
    with pytest.raises(ValueError, match="generations.*>= 1"):
        tg.born_again(zoo.functional(), print, generations=0)
    with pytest.raises(TypeError, match="keras.Model"):
        tg.born_again("model.keras", print)
    with pytest.raises(ValueError, match="'unbuilt'"):
        tg.born_again(keras.Sequential([keras.layers.Dense(2)], name="unbuilt"), print)
