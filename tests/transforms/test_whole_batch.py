from __future__ import annotations

import threading

import keras
import numpy as np

import tfgreen as tg
from tfgreen.quantization.following import following_ranges
from tfgreen.transforms.whole_batch import WholeBatch, given_batch, giving, keeping, kept_batch


def test_each_call_with_a_part_has_the_values_of_the_same_call_with_the_whole():
    batch, layer, other = WholeBatch(), keras.layers.Dense(1), keras.layers.Dense(1)
    assert batch.values(layer) is None
    for value in (1.0, 2.0):
        batch.keep(layer, [np.float32(value)])
    assert [float(batch.values(layer)[0]) for _ in range(5)] == [1.0, 2.0, 1.0, 2.0, 1.0]
    assert batch.values(other) is None


def test_a_layer_called_twice_rounds_each_call_of_a_part_as_that_of_the_whole():
    x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(4)
    model = tg.quantize(keras.Model(inputs, shared(shared(inputs))), calibration_data=x)
    quantizer = next(layer.activations for layer in model.layers if getattr(layer, "activations", None) is not None)
    assert following_ranges(model)
    batch = WholeBatch()
    with keeping(batch):
        whole = model(3 * x, training=True).numpy()
    first, second = (np.hstack([np.ravel(value) for value in batch.values(quantizer)]) for _ in range(2))
    assert not np.array_equal(first, second)
    after = [variable.numpy() for variable in model.variables]
    with giving(batch):
        parts = np.concatenate([model(3 * part, training=True).numpy() for part in (x[:5], x[5:])])
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert all(np.array_equal(variable, value) for variable, value in zip(model.variables, after, strict=True))


def test_it_holds_in_its_block_and_its_thread_alone():
    batch, seen = WholeBatch(), []
    with keeping(batch), giving(batch):
        assert kept_batch() is batch and given_batch() is batch
        thread = threading.Thread(target=lambda: seen.append((kept_batch(), given_batch())))
        thread.start()
        thread.join()
    assert seen == [(None, None)] and kept_batch() is None and given_batch() is None
