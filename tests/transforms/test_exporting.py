from __future__ import annotations

import threading

import pytest
import tensorflow as tf

from tfgreen.transforms.exporting import exporting, is_exporting, with_ranges_of_averages


def test_it_holds_in_the_block_only_nested_or_after_an_error():
    with exporting():
        with exporting():
            assert is_exporting()
        assert is_exporting()
    with pytest.raises(RuntimeError):
        with exporting():
            raise RuntimeError
    assert not is_exporting()


def test_it_holds_in_its_own_thread_only():
    found = []
    with exporting():
        thread = threading.Thread(target=lambda: found.append(is_exporting()))
        thread.start()
        thread.join()
    assert found == [False]


def pooled(x):
    return tf.nn.avg_pool1d(x, 2, 2, "VALID")


@pytest.mark.parametrize("between, marked", [
    (pooled, True), (lambda x: tf.nn.relu(tf.reshape(pooled(x), (2, 12))), True),
    (lambda x: pooled(tf.nn.max_pool1d(x, 2, 2, "VALID")), True), (lambda x: tf.nn.max_pool1d(x, 2, 2, "VALID"), False),
    (lambda x: pooled(2 * x), False), (lambda x: tf.reduce_mean(x, 1), False),
])  # fmt: skip
def test_only_what_is_averaged_in_a_range_is_marked_with_it(between, marked):
    def trace(x):
        y = between(tf.quantization.fake_quant_with_min_max_vars(x, -1.5, 2.5, num_bits=4))
        (again,) = with_ranges_of_averages([y])
        assert (again is not y) == marked
        if marked:
            ends = [float(tf.get_static_value(end)) for end in again.op.inputs[1:]]
            assert again.op.get_attr("num_bits") == 4 and ends == [-1.5, 2.5]
        return again

    tf.function(trace).get_concrete_function(tf.TensorSpec((2, 8, 3)))
