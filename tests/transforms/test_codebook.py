"""Codebook against NumPy: what comes out, where the gradient goes, which weight gets which centroid."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfgreen.transforms import codebook as module
from tfgreen.transforms.base import Chain
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.fake_quant import FakeQuant
from tfgreen.transforms.mask import Mask

RNG = np.random.default_rng(0)


def made(weight: np.ndarray, count: int = 4, **settings) -> Codebook:
    codebook = Codebook(count, **settings)
    codebook.build(weight.shape)
    codebook.initialize(weight, "kmeans_plus_plus")
    return codebook


def refresh(codebook: Codebook, weight: np.ndarray, step: int = 1) -> None:
    Codebook.update_together([codebook], [weight], ["layer 'one' (Dense), 'kernel'"], step)


def gradients(codebook: Codebook, weight: np.ndarray, upstream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with tf.GradientTape() as tape:
        looked_up = codebook.apply(tf.constant(weight))
        loss = tf.reduce_sum(looked_up * upstream)
    return looked_up.numpy(), tape.gradient(loss, codebook.centroids.value).numpy()


@pytest.mark.parametrize("large", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("aggregation", ["sum", "average"])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("axes", [(), (-1,), (-2,), (-2, -1), (0, 2)], ids=str)
def test_look_up_and_gradient_are_those_of_a_float64_reference(axes, zero, aggregation, large, monkeypatch):
    monkeypatch.setattr(module, "_LARGE", 0 if large else 1 << 30)
    weight = RNG.normal(size=(6, 5, 4, 3)).astype("float32")
    if zero:
        weight[RNG.random(weight.shape) < 0.3] = 0.0
    settings = {"preserve_sparsity": zero, "channel_axes": axes, "gradient_aggregation": aggregation}
    codebook = made(weight, **settings)
    upstream = RNG.normal(size=weight.shape).astype("float32")
    looked_up, gradient = gradients(codebook, weight, upstream)

    kept = [axis % 4 for axis in axes]
    order = [axis for axis in range(4) if axis not in kept] + sorted(kept)
    columns = int(np.prod([weight.shape[axis] for axis in kept], dtype=int))
    value, rising = (a.transpose(order).reshape(-1, columns).astype("float64") for a in (weight, upstream))
    result = looked_up.transpose(order).reshape(-1, columns)
    table = codebook.values().astype("float64").reshape(4, columns)
    expected = np.zeros((4, columns))
    for column in range(columns):
        nearest = np.abs(value[:, column, None] - table[:, column]).argmin(axis=1)
        np.testing.assert_array_equal(result[:, column], table[nearest, column].astype("float32"))
        for number in range(4):
            shared = rising[nearest == number, column]
            expected[number, column] = shared.sum() / (max(len(shared), 1) if aggregation == "average" else 1)
    np.testing.assert_allclose(gradient.reshape(-1, columns), expected[int(zero) :], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(codebook.counts().reshape(4, columns).sum(axis=0), value.shape[0])
    if zero:
        assert (looked_up[weight == 0] == 0).all() and (table[0] == 0).all()


@pytest.mark.parametrize("zero", [False, True])
def test_the_stored_weight_has_the_gradient_of_the_weight_computed_with_but_for_zeros_that_stay(zero):
    value = RNG.normal(size=(8, 3)).astype("float32")
    value[:4] = 0.0
    weight, rising = tf.Variable(value), RNG.normal(size=(8, 3)).astype("float32")
    codebook = made(value, preserve_sparsity=zero)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(codebook.apply(weight) * rising)
    np.testing.assert_array_equal(tape.gradient(loss, weight), np.where(zero & (value == 0), 0, rising))


@pytest.mark.parametrize("count, dtype", [(2, "uint8"), (256, "uint8"), (257, "uint16")])
def test_assignments_take_the_smallest_integer(count, dtype):
    weight = RNG.normal(size=(40, 30)).astype("float32")
    codebook = made(weight, count)
    assert codebook.assignments.dtype == dtype and codebook.centroids.shape == (count,)
    assert len(np.unique(codebook.apply(weight))) == count


def test_a_refresh_assigns_each_weight_to_the_nearest_centroid_wherever_these_have_moved():
    weight = RNG.normal(size=(50, 20)).astype("float32")
    codebook = made(weight, 5)
    moved = np.float32([0.5, -1.0, 2.0, 0.1, -0.2])  # in any order: an optimizer keeps what it knows of each in place
    codebook.centroids.assign(moved)
    before = codebook.assignments.numpy().copy()
    np.testing.assert_array_equal(codebook.apply(weight), moved[before])  # until the refresh
    refresh(codebook, weight)
    expected = np.abs(weight[..., None].astype("float64") - moved).argmin(axis=-1)
    np.testing.assert_array_equal(codebook.assignments, expected)
    assert (expected != before).any()


@pytest.mark.parametrize("count", [2, 16, 256, 300])
@pytest.mark.parametrize("size", [1, 7, 1 << 15, (1 << 15) + 1])
def test_counts_are_those_of_the_nearest_centroids(size, count):
    weight = RNG.standard_normal((size, 1)).astype("float32")
    codebook = Codebook(count)
    codebook.build(weight.shape)
    codebook.centroids.assign(RNG.standard_normal(count))
    codebook._assign(weight, codebook.values())
    numbers = np.asarray(codebook.assignments)
    distance = np.abs(weight.astype("float64") - codebook.values()[None])
    chosen = np.take_along_axis(distance, numbers.astype(int), axis=1)[:, 0]
    np.testing.assert_allclose(chosen, distance.min(axis=1), atol=1e-6)  # a midpoint is rounded to float32
    np.testing.assert_array_equal(codebook.counts(), np.bincount(numbers.ravel(), minlength=count))


def test_due_every_so_many_steps_and_at_the_start():
    codebook = Codebook(4, frequency=10)
    assert codebook.due(-1, 0) and codebook.due(9, 10) and codebook.due(5, 27)
    assert not codebook.due(0, 9) and not codebook.due(10, 19)


def test_zero_stays_while_it_trains():
    weight = RNG.normal(size=(30, 10)).astype("float32")
    weight[weight < 0.2] = 0.0
    codebook = made(weight, 4, preserve_sparsity=True)
    assert codebook.centroids.shape == (3,)
    codebook.centroids.assign([2.0, 6.0, 7.0])  # far off: most weights then fall to zero, but no zero leaves
    refresh(codebook, weight)
    assert ((np.asarray(codebook.apply(weight)) == 0) >= (weight == 0)).all()


def test_transforms_stand_in_their_order():
    assert Mask.order < Codebook.order < FakeQuant.order
    assert not Codebook(4).keeps_zeros and Codebook(4, preserve_sparsity=True).keeps_zeros


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_diverged_is_named(bad):
    weight = RNG.normal(size=(6, 4)).astype("float32")
    codebook = made(weight)
    with pytest.raises(ValueError, match=r"layer 'one' \(Dense\), 'kernel'.*NaN.*lower the learning rate"):
        refresh(codebook, np.where(weight > 1, bad, weight).astype("float32"))
    codebook.centroids.assign([0.0, bad, 1.0, 2.0])
    with pytest.raises(ValueError, match=r"layer 'one' \(Dense\), 'kernel'.*NaN.*lower the learning rate"):
        refresh(codebook, weight)


@pytest.mark.parametrize("axes", [(), (-1,)])
def test_a_layer_that_dies_is_named(axes):
    weight = RNG.normal(size=(6, 4)).astype("float32")
    codebook = made(weight, channel_axes=axes)
    codebook.centroids.assign(np.zeros(codebook.centroids.shape) + 1e6)
    with pytest.raises(ValueError, match=r"layer 'one' \(Dense\), 'kernel'.*fallen to one centroid.*dead"):
        refresh(codebook, weight)


def test_config_and_variables_round_trip():
    codebook = Codebook(5, True, (-1,), 7, "average", "few values", name="book")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(codebook))
    assert again.get_config() == codebook.get_config()
    chain = Chain("kernel", [again])
    chain.build((6, 4))
    assert {v.name: tuple(v.shape) for v in again.variables} == {
        "step": (), "centroids": (4, 4), "assignments": (6, 4), "sizes": (5, 4),
    }  # fmt: skip


def test_a_channel_with_fewer_values_or_none_but_zero():
    weight = RNG.normal(size=(20, 3)).astype("float32")
    weight[:, 1] = 0.0
    weight[:, 2] = np.where(weight[:, 2] > 0, 0.5, 0.0)
    codebook = made(weight, 4, preserve_sparsity=True, channel_axes=(-1,))
    looked_up = np.asarray(codebook.apply(weight))
    np.testing.assert_array_equal(looked_up[:, 1:], weight[:, 1:])
    assert 3 <= len(np.unique(looked_up[:, 0])) <= 4
