"""Small tasks that runs are tried on: a classifier, a regression, a segmentation, two outputs."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from tfgreen.recipes.data.data import Data
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.run.account import Account
from tfgreen.recipes.run.optimize import make_task

layers = keras.layers


def classifier():
    """Two classes of points, told by the sign of their first number; not compiled."""
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, "relu", name="hidden"), layers.Dense(2, "softmax", name="out")],
        name="classifier",
    )


def points(count=120, **options):
    x = np.random.default_rng(0).normal(size=(count, 8)).astype("float32")
    return Data.from_arrays(x, (x[:, 0] > 0).astype("int64"), source="points", **{"test_share": 0.2, **options})


def regression():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(1)], name="regression")
    model.compile("adam", "mse", metrics=["mae"])
    return model


def sums():
    x = np.random.default_rng(0).normal(size=(120, 8)).astype("float32")
    return Data.from_arrays(x, x.sum(axis=1, keepdims=True), source="sums", test_share=0.2)


def segmentation():
    """A class for each pixel of a small image."""
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="features")(inputs)
    return keras.Model(inputs, layers.Conv2D(2, 1, activation="softmax", name="mask")(x), name="segmentation")


def masks():
    x = np.random.default_rng(0).normal(size=(80, 8, 8, 1)).astype("float32")
    return Data.from_arrays(x, (x > 0).astype("int64"), source="masks", test_share=0.2)


def two_outputs():
    """A class and a number of the same input."""
    inputs = keras.Input((8,), name="x")
    x = layers.Dense(16, "relu", name="trunk")(inputs)
    outputs = {"kind": layers.Dense(3, "softmax", name="kind")(x), "size": layers.Dense(1, name="size")(x)}
    model = keras.Model(inputs, outputs, name="two_outputs")
    losses = {"kind": "sparse_categorical_crossentropy", "size": "mse"}
    model.compile("adam", losses, metrics={"kind": ["accuracy"], "size": ["mae"]})
    return model


def kinds_and_sizes():
    x = np.random.default_rng(0).normal(size=(120, 8)).astype("float32")
    y = {"kind": x[:, :3].argmax(axis=1).astype("int64"), "size": x[:, :1]}
    return Data.from_arrays(x, y, source="two", test_share=0.2)


def task_of(model=None, data=None, steps=("convert",), **options):
    """The task of a run, made as ``tg.optimize`` makes it."""
    given = {"metric": None, "budget": None, "bounds": {}, "region": None, "seed": 0, **options}
    recipe = steps if isinstance(steps, Recipe) else Recipe(steps, name="mine")
    return make_task(model or classifier(), data or points(), recipe, **given)


def stepped(function, state, settings, task):
    """The state after a step, counted as the runner counts it."""
    with Account() as account:
        return function(state, settings, dataclasses.replace(task, account=account))
