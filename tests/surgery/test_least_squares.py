from __future__ import annotations

import keras
import numpy as np
from keras import layers

from tests.surgery.cases import randomized
from tfgreen.model.call_spec import read_call_spec
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.least_squares import ridge_regression, solve_kernels
from tfgreen.surgery.remove_channels import remove_channels


def test_least_squares_are_those_of_numpy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 6)), rng.normal(size=(500, 3))
    matrix, intercept = ridge_regression(x, y, np.zeros((6, 3)), np.zeros(3))
    expected, *_ = np.linalg.lstsq(np.c_[x, np.ones(500)], y, rcond=None)
    np.testing.assert_allclose(np.concatenate([matrix, intercept[None]]), expected, atol=2e-3)
    matrix, intercept = ridge_regression(x, x @ np.ones((6, 2)), np.ones((6, 2)), None)
    np.testing.assert_allclose(matrix, np.ones((6, 2)))
    assert intercept is None


def test_what_rows_do_not_decide_stays():
    x = np.eye(4)[:2]
    matrix, _ = ridge_regression(x, np.ones((2, 1)), np.full((4, 1), 7.0), None)
    np.testing.assert_allclose(matrix[:2], 1, atol=0.1)
    np.testing.assert_allclose(matrix[2:], 7)


def test_batches_of_the_size_that_a_model_fixes_are_solved_together():
    def solved(batch: int | None) -> list[np.ndarray]:
        inputs = keras.Input(batch_shape=(batch, 6), name="x")
        rows = keras.ops.reshape(inputs, (batch or -1, 6))  # of a fixed batch, no other goes
        x = layers.Dense(8, "relu", name="first")(rows)
        x = layers.Dense(7, "relu", name="second")(layers.Dense(6, "relu", name="between")(x))
        model = randomized(keras.Model(inputs, layers.Dense(3, name="out")(x)))
        groups = channel_groups(model)
        removed = [(groups[0], np.arange(4))]
        slim = remove_channels(model, groups.analysis, removed)
        samples = {"x": np.random.default_rng(0).normal(size=(100, 6)).astype("float32")}
        return solve_kernels(model, slim, groups.analysis, removed, samples).get_weights()

    for whole, parts in zip(solved(None), solved(20), strict=True):
        np.testing.assert_allclose(parts, whole, rtol=1e-3, atol=1e-4)


def test_channels_that_others_can_stand_for_are_not_missed():
    """Half of the filters are copies of the others: without them the model computes the same again."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, name="first", activation="relu")(inputs)
    x = layers.Conv2D(5, 3, name="second", strides=2)(layers.BatchNormalization()(x))
    model = randomized(keras.Model(inputs, layers.Dense(3, name="out")(layers.Flatten()(x))))
    for name in ("first", "batch_normalization"):
        for weight in model.layers[1 if name == "first" else 2].weights:
            values = weight.numpy()
            values[..., 4:] = values[..., :4]
            weight.assign(values)
    samples = np.random.default_rng(0).normal(size=(300, 6, 6, 2)).astype("float32")
    groups = channel_groups(model)
    removed = [(groups[0], np.arange(4, 8))]
    slim = remove_channels(model, groups.analysis, removed)
    expected = model.predict(samples, verbose=0)
    before = np.abs(slim.predict(samples, verbose=0) - expected).max()
    weights = [weight.numpy() for weight in slim.weights]
    name = read_call_spec(model).inputs[0].name
    solved = solve_kernels(model, slim, groups.analysis, removed, {name: samples})
    assert np.abs(solved.predict(samples, verbose=0) - expected).max() < before / 200
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(weights, slim.weights))


def test_kernels_behind_a_layer_that_lost_heads_inside_make_up_for_them():
    inputs = keras.Input((5, 8), name="x")
    x = layers.Dense(8, name="before")(inputs)
    x = layers.MultiHeadAttention(4, 4, name="heads")(x, x)
    model = randomized(keras.Model(inputs, layers.Dense(3, name="out")(x)))
    groups = channel_groups(model)
    removed = [(group, np.arange(2)) for group in groups if group.name.startswith("heads") and group.size == 4]
    assert removed
    slim = remove_channels(model, groups.analysis, removed)
    samples = {"x": np.random.default_rng(0).normal(size=(300, 5, 8)).astype("float32")}
    solved = solve_kernels(model, slim, groups.analysis, removed, samples)
    expected = model.predict(samples["x"], verbose=0)
    far, near = (np.square(one.predict(samples["x"], verbose=0) - expected).mean() for one in (slim, solved))
    assert near < 0.7 * far
    np.testing.assert_array_equal(solved.get_layer("before").kernel, model.get_layer("before").kernel)
