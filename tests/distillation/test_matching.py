"""Matching: which tensors a loss compares, how they are made to fit, and how values are reduced."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import tfgreen as tg
from tfgreen.distillation.adapters import KerasAdapter
from tfgreen.distillation.matching import (
    Batch,
    Match,
    pick,
    request,
    request_all,
)


def images(width: int, size: int = 8) -> keras.Model:
    inputs = keras.Input((size, size, 2))
    x = layers.Conv2D(width, 3, padding="same", name="conv")(inputs)
    x = layers.AveragePooling2D(2, name="half")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D()(x)))


def adapters(teacher: keras.Model, student: keras.Model):
    return KerasAdapter(teacher, "teacher"), KerasAdapter(student, "student")


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 2**32 - 1))
def test_larger_maps_are_averaged_over_blocks(rows, columns, factor, of_teacher, seed):
    rng = np.random.default_rng(seed)
    small = rng.normal(size=(2, rows, columns, 3)).astype("float32")
    large = rng.normal(size=(2, rows * factor, columns * 2, 3)).astype("float32")
    pools = {"teacher_pool" if of_teacher else "student_pool": (factor, 2)}
    loss = tg.FeatureDistillation("mse", "a", "b")
    match = Match(loss, 0, "t", "s", "", **pools)
    theirs, ours = (large, small) if of_teacher else (small, large)
    batch = Batch(None, None, ours, {"": ours}, None, 0)
    *tensors, masked = match.matched({"t": theirs}, {"s": ours}, batch)
    expected = large.astype("float64").reshape(2, rows, factor, columns, 2, 3).mean((2, 4))
    np.testing.assert_allclose(tensors[0 if of_teacher else 1], expected, atol=1e-5)
    np.testing.assert_array_equal(tensors[1 if of_teacher else 0], small)
    got = float(match.reduced(*tensors, masked, batch))
    assert got == pytest.approx(np.mean((expected - small) ** 2), rel=1e-4)


def test_channels_that_differ_are_projected_only_where_the_loss_compares_them():
    teacher, student = adapters(images(5), images(4))
    match = request(tg.FeatureDistillation("mse", "half", "conv"), 0, teacher, student)
    assert match.student_pool == (2, 2) and match.teacher_pool == (1, 1)
    assert match.projection.kernel.shape == (4, 5) and match.projection.bias is None
    assert request(tg.AttentionTransfer("half", "conv"), 0, teacher, student).projection is None
    assert request(tg.FeatureDistillation("mse", "conv", "conv"), 0, *adapters(images(4), images(4))).projection is None
    with pytest.raises(ValueError, match=r"layers 'conv' and 'conv'.*\(8, 8, 5\) and \(6, 6, 4\)"):
        request(tg.FeatureDistillation("mse", "conv", "conv"), 0, teacher, KerasAdapter(images(4, 6), "student"))


def test_sample_weights_mask_and_values_are_reduced_as_keras_does():
    rng = np.random.default_rng(0)
    theirs, ours = (rng.normal(size=(3, 4, 5)).astype("float32") for _ in range(2))
    match = Match(tg.FeatureDistillation(), 0, "t", "s", "")
    values = ((theirs - ours).astype("float64") ** 2).mean(-1)
    for weight in (np.array([1.0, 0.0, 2.0]), rng.uniform(size=(3, 4)), rng.uniform(size=(3, 4, 1))):
        batch = Batch(None, None, ours, {"": ours}, weight.astype("float32"), 0)
        full = weight.reshape(weight.shape[:2] if weight.ndim > 1 else (3, 1))
        got = match.reduced(theirs, ours, ours, batch)
        assert float(got) == pytest.approx((values * full).mean(), rel=1e-5)
    masked = keras.ops.convert_to_tensor(ours)
    mask = rng.integers(0, 2, (3, 4)).astype(bool)
    masked._keras_mask = mask
    got = match.reduced(theirs, ours, masked, Batch(None, None, ours, {"": ours}, None, 0))
    assert float(got) == pytest.approx(values[mask].mean(), rel=1e-5)


@pytest.mark.parametrize("form", ["numbers", "column", "one-hot"])
def test_labels_in_every_form_are_class_numbers(form):
    rng = np.random.default_rng(0)
    theirs, ours = rng.normal(size=(2, 6, 3)).astype("float32")
    labels = rng.integers(0, 3, 6)
    y = {"numbers": labels, "column": labels[:, None], "one-hot": np.eye(3, dtype="float32")[labels]}[form]
    loss = tg.DecoupledDistillation(temperature=2.0)
    match = Match(loss, 0, "t", "s", "", "softmax")
    got = match.reduced(theirs, ours, ours, Batch(None, y, ours, {"": ours}, None, 0))
    assert float(got) == pytest.approx(float(np.mean(loss.values(theirs, ours, labels=labels))), rel=1e-5)


def test_each_loss_is_requested_of_each_teacher_it_is_about_with_its_weight_and_share():
    student = KerasAdapter(images(4), "student")
    teachers = [(KerasAdapter(images(4), "teacher"), 0.75), (KerasAdapter(images(4), "teacher"), 0.25)]
    losses = [(tg.LogitsDistillation(), 1.0), (tg.FeatureDistillation(teacher=1), 0.5)]
    found = request_all(losses, teachers, student)
    assert [(m.teacher, m.weight, m.share) for m in found] == [(0, 1.0, 0.75), (1, 1.0, 0.25), (1, 0.5, 1.0)]
    assert set(teachers[0][0].requests) == {"softmax/"}
    assert set(teachers[1][0].requests) == {"softmax/", "output/"}
    own = keras.distillation.LogitsDistillation()
    assert [m.teacher for m in request_all([(own, 2.0)], teachers, student)] == [0, 1]


def test_the_part_of_an_output_is_picked_in_every_form():
    names = ["label", "size"]
    for structure in ({"label": 1, "size": 2}, [1, 2], (1, 2)):
        assert [pick(structure, name, names, "y") for name in names] == [1, 2]
    assert pick([7], "label", names, "y") == 7
    with pytest.raises(ValueError, match="y: expected one for output 'label' of .*received 3 arrays"):
        pick([1, 2, 3], "label", names, "y")
