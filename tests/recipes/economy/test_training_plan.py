from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tests.recipes.economy.test_fit import _Sequence, arrays, network


def test_the_learning_rate_falls_along_a_cosine():
    model = network()
    tg.fit(model, arrays(), epochs=2, batch_size=16, schedule="cosine", verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="one schedule.*optimizer's"):
        tg.fit(model, arrays(), schedule="cosine", verbose=0)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    model = network()
    tg.fit(model, arrays(), batch_size=32, schedule=schedule, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.025)


def test_short_steps_run_several_at_once_and_those_of_compressed_models_do_not():
    assert tg.fit(network(), arrays(), batch_size=8, verbose=0).savings["steps_per_execution"].startswith("on: 8")
    pruned = tg.prune(network(), schedule=tg.ConstantSparsity(0.5, begin_step=0))
    pruned.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    run = tg.fit(pruned, arrays(), batch_size=8, verbose=0, callbacks=[tg.UpdateCompression()])
    assert run.savings["steps_per_execution"].startswith("off: 1, a compressed model")
    assert run.history["sparsity"][-1] == pytest.approx(0.5, abs=0.1)


def test_parts_are_counted_against_the_batches_that_come():
    x, y = arrays()
    batches = tf.data.Dataset.from_tensor_slices((x, y))
    assert tg.fit(network(), batches.batch(40), accumulate=36, verbose=0).savings["accumulate"].startswith("on: 36")
    model = network()
    before = model.get_weights()
    for data in (batches.batch(6), batches.batch(6, drop_remainder=True)):
        with pytest.raises(ValueError, match="accumulate.*6 in the first one, received 8.*batch size of the data"):
            tg.fit(model, data, accumulate=8, verbose=0)
    with pytest.raises(ValueError, match="accumulate.*16 in the first one, received 20"):
        tg.fit(model, _Sequence(), accumulate=20, verbose=0)
    with pytest.raises(ValueError, match="at most the 64 samples of a batch"):
        tg.fit(model, (x, y), batch_size=100, accumulate=80, verbose=0)
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, other)
    trained = network()
    trained.fit(x, y, verbose=0)  # an optimizer that has counted already
    with pytest.raises(ValueError, match="6 in the first one"):
        tg.fit(trained, batches.batch(6), accumulate=8, verbose=0)
    # The last one of an epoch may be smaller.
    assert tg.fit(network(), batches.batch(60), epochs=2, accumulate=8, verbose=0).epoch == [0, 1]
