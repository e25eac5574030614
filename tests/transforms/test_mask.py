from __future__ import annotations

import keras
import numpy as np
import pytest

from tfgreen.training.schedules import ConstantSparsity, PolynomialDecay, _tfmot_schedules
from tfgreen.transforms.mask import Mask


def updated(mask: Mask, weight: np.ndarray, step: int = 0) -> np.ndarray:
    """The mask of a weight after an update, as an array."""
    if not mask.built:
        mask.build(weight.shape)
    Mask.update_together([mask], [weight], ["layer 'one' (Dense), 'kernel'"], step)
    return keras.ops.convert_to_numpy(mask.mask)


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
    ours = updated(Mask(ConstantSparsity(sparsity, 0)), weight)
    np.testing.assert_array_equal(ours, theirs.numpy() != 0)


def test_a_masked_weight_gets_no_gradient_and_the_mask_takes_one_byte():
    import tensorflow as tf

    mask = Mask(ConstantSparsity(0.5, 0))
    weight = tf.Variable([0.1, -0.9, 0.3, 0.2])
    updated(mask, weight.numpy())
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


# Blocks that divide the weight: elsewhere TFMOT pools with padding on both sides, but lays its blocks from the corner.
@pytest.mark.parametrize("shape, block", [((12, 10), b) for b in [(4, 2), (1, 5), (3, 5)]] + [((8, 16), (1, 4))])
@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
def test_block_masks_equal_those_that_tfmot_computes(shape, block, pooling):
    _tfmot_schedules()
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl, pruning_schedule

    weight = np.random.default_rng(0).normal(size=shape).astype("float32")
    pruning = pruning_impl.Pruning(
        lambda: tf.constant(0, tf.int64), [], pruning_schedule.ConstantSparsity(0.6, 0), block, pooling
    )
    _, theirs = pruning._maybe_update_block_mask(tf.constant(weight))
    ours = updated(Mask(ConstantSparsity(0.6, 0), block_size=block, block_pooling=pooling), weight)
    np.testing.assert_array_equal(ours, theirs.numpy() != 0)


@pytest.mark.parametrize("shape", [(8, 5), (7, 5), (3, 3, 8, 4), (1, 1, 6, 2)])
@pytest.mark.parametrize("m_by_n", [(2, 4), (1, 2), (3, 4)])
def test_m_by_n_masks_equal_those_that_tfmot_computes(shape, m_by_n):
    _tfmot_schedules()
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl, pruning_schedule

    weight = np.random.default_rng(0).normal(size=shape).astype("float32")
    pruning = pruning_impl.Pruning(
        lambda: tf.constant(1, tf.int64), [], pruning_schedule.ConstantSparsity(0.5, 0), (1, 1), "AVG", m_by_n
    )
    theirs = pruning._update_mask_sparsity_m_by_n(tf.constant(weight), m_by_n)
    m, n = m_by_n
    ours = updated(Mask(ConstantSparsity(m / n, 0), m_by_n=m_by_n), weight)
    np.testing.assert_array_equal(ours, theirs.numpy() != 0)


def test_blocks_and_groups_of_a_convolution_lie_where_the_docstring_says():
    weight = np.random.default_rng(0).normal(size=(3, 3, 4, 8)).astype("float32")
    blocks = updated(Mask(ConstantSparsity(0.5, 0), block_size=(1, 4)), weight).reshape(36, 2, 4)
    assert (blocks.all(-1) | ~blocks.any(-1)).all() and blocks.mean() == 0.5
    transposed = np.moveaxis(weight, -1, -2)  # (h, w, out, in), as Conv2DTranspose stores it
    same = updated(Mask(ConstantSparsity(0.5, 0), block_size=(1, 4), output_axes=(-2,)), transposed)
    np.testing.assert_array_equal(np.moveaxis(same, -1, -2).reshape(36, 2, 4), blocks)
    groups = updated(Mask(ConstantSparsity(0.5, 0), m_by_n=(2, 4)), weight)
    assert (groups.sum(axis=2) == 2).all()


def test_m_by_n_follows_the_schedule():
    schedule = PolynomialDecay(0.0, 0.5, begin_step=0, end_step=100, power=1, frequency=10)
    mask, weight = Mask(schedule, m_by_n=(2, 4)), np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    zeros = [4 - updated(mask, weight, step).reshape(2, 4, 3).sum(axis=1) for step in (0, 30, 60, 100)]
    assert [set(z.ravel().tolist()) for z in zeros] == [{0}, {0}, {1}, {2}]


def test_scopes_share_one_budget():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(20, 10)).astype("float32"), 0.01 * rng.normal(size=(30, 10)).astype("float32")]
    shares = {}
    for scope in ("layer", "global", "erk"):
        masks = [Mask(ConstantSparsity(0.6, 0), scope=scope) for _ in weights]
        for mask, weight in zip(masks, weights):
            mask.build(weight.shape)
        if scope == "layer":
            assert masks[0].group is None
        else:
            assert masks[0].group == masks[1].group
        Mask.update_together(masks, weights, ["a", "b"], 0)
        kept = [keras.ops.convert_to_numpy(mask.mask) for mask in masks]
        assert sum(int(k.sum()) for k in kept) == pytest.approx(200, abs=1)
        shares[scope] = [1 - k.mean() for k in kept]
    assert shares["layer"] == pytest.approx([0.6, 0.6])
    assert shares["global"][0] < 0.05 and shares["global"][1] > 0.9
    assert shares["erk"][0] < 0.6 < shares["erk"][1]


def test_threshold_and_random_and_importance():
    weight = np.array([[0.1, -0.5], [0.5001, 0.02]], "float32")
    schedule = ConstantSparsity(0.5, 0)
    assert updated(Mask(schedule, "threshold", threshold=0.5), weight).tolist() == [[False, False], [True, False]]
    important = Mask(schedule, "taylor", importance=np.array([[100.0], [0.1]], "float32"))
    assert updated(important, weight).tolist() == [[True, True], [False, False]]
    big = np.ones((40, 40), "float32")
    first, again, other = (updated(Mask(schedule, "random", seed=seed), big) for seed in (1, 1, 2))
    assert first.mean() == 0.5 and (first == again).all() and (first != other).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_diverged_are_named(bad):
    weight = np.array([1.0, bad, 2.0], "float32")
    with pytest.raises(ValueError, match=r"layer 'one' \(Dense\), 'kernel'.*1 NaN or infinite"):
        updated(Mask(ConstantSparsity(0.5, 0)), weight)


def test_full_config_round_trip_with_importance():
    mask = Mask(
        ConstantSparsity(0.5, 0), "taylor", "layer", (1, 2), "MAX", None, -1, (-2,),
        importance=np.full((4, 4), 3.0, "float32"), name="m",
    )  # fmt: skip
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(mask))
    assert again.get_config() == mask.get_config()
    again.build((4, 4))
    assert again.importance.shape == (4, 4)
