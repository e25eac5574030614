from __future__ import annotations

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg


def model(wait: float = 0.0) -> keras.Model:
    """A model whose step takes ``wait`` seconds or more."""
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

    def loss(y, prediction):
        with tf.control_dependencies([tf.numpy_function(lambda: np.float32(time.sleep(wait) or 0), [], "float32")]):
            return tf.reduce_mean(tf.square(prediction - y), -1)

    made.compile("sgd", "mse" if not wait else keras.saving.register_keras_serializable(name=f"slow{wait}")(loss))
    return made


def batches(wait: float, count: int = 30) -> tf.data.Dataset:
    def slow(x):
        return tf.ensure_shape(tf.numpy_function(lambda v: time.sleep(wait) or v, [x], "float32"), (4,))

    x = tf.data.Dataset.from_tensor_slices(np.ones((count, 4), "float32")).map(slow)
    return x.map(lambda row: (row, tf.ones((1,)))).batch(1)


def test_the_share_is_that_of_a_step_spent_waiting():
    starved = tg.profile_pipeline(model(), batches(0.03), steps=20)
    fed = tg.profile_pipeline(model(0.03), batches(0.0), steps=20)
    both = tg.profile_pipeline(model(0.03), batches(0.09), steps=20)  # TensorFlow makes a batch while the step runs
    assert starved.waiting_share > 0.6 and starved.is_bottleneck and "would save up to" in str(starved)
    assert fed.waiting_share < 0.3
    assert fed.waiting_share < both.waiting_share < starved.waiting_share and both.step_ms > 80
    assert fed.steps == 20 and "waiting" in fed._repr_html_()


def test_a_shorter_last_batch_changes_nothing():
    """A step of it is traced, which takes many times as long as a step."""
    whole, short = (
        tg.profile_pipeline(model(), batches(0.004, count).unbatch().batch(4), steps=20) for count in (48, 46)
    )
    assert short.steps == whole.steps - 1 == 8 and abs(short.waiting_share - whole.waiting_share) < 0.2
    assert short.step_ms < 3 * whole.step_ms
    for found in (whole, short):
        assert 4e3 / found.step_ms == pytest.approx(found.samples_per_second, rel=1e-6)


def test_a_model_that_is_compiled_by_xla():
    one = model()
    one.compile("sgd", "mse", metrics=["mae"], jit_compile=True)
    assert tg.profile_pipeline(one, batches(0.0, 26).unbatch().batch(4)).steps == 3


def test_the_model_is_not_trained():
    one = model()
    before = one.get_weights()
    tg.profile_pipeline(one, batches(0.0))
    for a, b in zip(one.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="at least 6 batches of one size.*received 4"):
        tg.profile_pipeline(model(), batches(0.0, 4))
    with pytest.raises(TypeError, match="tf.data.Dataset"):
        tg.profile_pipeline(model(), np.ones((3, 4)))
    with pytest.raises(ValueError, match="not compiled"):
        tg.profile_pipeline(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]), batches(0.0))
