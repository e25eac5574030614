from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfgreen.training.schedules import ConstantSparsity, PolynomialDecay, _tfmot_schedules
from tfgreen.transforms.mask import Mask, magnitude_mask

weights = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=6),
    elements=st.floats(-4, 4, width=32).map(lambda v: round(v, 1)),  # coarse, so that ties are common
)
sparsities = st.floats(0, 1, exclude_max=True, width=32)


def expected_kept(size: int, sparsity: float) -> int:
    return max(int(np.round(np.float32(size) * (np.float32(1) - np.float32(sparsity)))), 1)


@given(weights, sparsities)
def test_the_kept_weights_are_as_many_as_promised_and_none_is_smaller_than_a_dropped_one(weight, sparsity):
    mask = magnitude_mask(weight, sparsity)
    assert mask.shape == weight.shape and mask.dtype == bool
    assert mask.sum() == min(expected_kept(weight.size, sparsity), weight.size)
    if not mask.all():
        assert np.abs(weight)[mask].min() >= np.abs(weight)[~mask].max()


@given(weights, sparsities)
def test_ties_are_broken_by_position(weight, sparsity):
    mask = magnitude_mask(weight, sparsity).ravel()
    magnitude = np.abs(weight).ravel()
    for value in np.unique(magnitude):
        kept = mask[magnitude == value]
        assert not np.any(~kept[:-1] & kept[1:]), "a dropped weight stands before a kept one of the same magnitude"


@pytest.mark.parametrize("shape", [(7,), (5, 9), (3, 3, 4, 8), (64, 33)])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999])
def test_masks_equal_those_that_tfmot_computes(shape, sparsity):
    _tfmot_schedules()  # the one door to TFMOT, which keeps tf.keras what it is
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl, pruning_schedule

    weight = np.random.default_rng(len(shape)).normal(size=shape).astype("float32")
    pruning = pruning_impl.Pruning(
        training_step_fn=lambda: tf.constant(0, tf.int64),
        pruning_vars=[],
        pruning_schedule=pruning_schedule.ConstantSparsity(sparsity, 0),
        block_size=(1, 1),
        block_pooling_type="AVG",
    )
    _, theirs = pruning._update_mask(tf.constant(weight))
    np.testing.assert_array_equal(magnitude_mask(weight, sparsity), theirs.numpy() != 0)


def test_equal_weights_are_pruned_to_the_sparsity_asked_for_unlike_in_tfmot():
    assert magnitude_mask(np.ones((4, 5), "float32"), 0.5).mean() == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_cannot_be_ranked_are_an_error(bad):
    weight = np.arange(6, dtype="float32")
    weight[2] = bad
    with pytest.raises(ValueError, match="1 NaN or infinite"):
        magnitude_mask(weight, 0.5)


def test_a_masked_weight_gets_no_gradient_and_the_mask_takes_one_byte():
    import tensorflow as tf

    mask = Mask(ConstantSparsity(0.5, 0))
    mask.build((4,))
    weight = tf.Variable([0.1, -0.9, 0.3, 0.2])
    mask.update(weight, 0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(mask.apply(weight) * [1.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(tape.gradient(loss, weight), [0, 2, 3, 0])
    assert mask.mask.dtype == "bool" and mask.sparsity == 0.5


def test_due_looks_at_every_step_since_the_last():
    mask = Mask(PolynomialDecay(0.0, 0.5, begin_step=10, end_step=30, frequency=10))
    assert not mask.due(-1, 0) and not mask.due(0, 9)
    assert mask.due(9, 10) and mask.due(5, 17) and not mask.due(10, 19) and not mask.due(30, 100)


def test_config_round_trip():
    mask = Mask(PolynomialDecay(0.0, 0.5, begin_step=0, end_step=30), name="mask")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(mask))
    assert again.schedule == mask.schedule and again.name == mask.name
