from __future__ import annotations

import json
import socket
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tests.recipes.economy.test_fit import _Sequence, arrays, network
from tfgreen.training.progressive_resizing import ProgressiveResizing


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


@pytest.mark.slow
def test_short_steps_run_several_at_once_and_those_of_compressed_models_do_not():
    assert tg.fit(network(), arrays(), batch_size=8, verbose=0).savings["steps_per_execution"].startswith("on: 8")
    pruned = tg.prune(network(), schedule=tg.ConstantSparsity(0.5, begin_step=0))
    pruned.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    run = tg.fit(pruned, arrays(), batch_size=8, verbose=0, callbacks=[tg.UpdateCompression()])
    assert run.savings["steps_per_execution"].startswith("off: 1, a compressed model")
    assert run.history["sparsity"][-1] == pytest.approx(0.5, abs=0.1)


class Seen(keras.callbacks.Callback):
    """How many updates each epoch has."""

    def on_train_begin(self, logs=None):
        self.updates = []

    def on_epoch_end(self, epoch, logs=None):
        self.updates.append(int(self.model.optimizer.iterations) - sum(self.updates))


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "executed"), [(12, 12), (34, 2), (17, 1)])
def test_an_epoch_of_so_many_steps_has_no_more(steps, executed):
    x, y = arrays()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).repeat()
    seen = Seen()
    run = tg.fit(network(), batches, epochs=2, steps_per_epoch=steps, verbose=0, callbacks=[seen])
    assert seen.updates == [steps, steps]
    assert f": {executed}, " in run.savings["steps_per_execution"]
    with pytest.raises(ValueError, match=r"steps_per_execution: expected a divisor of steps_per_epoch"):
        tg.fit(network(), batches, steps_per_epoch=steps, steps_per_execution=5, verbose=0)


@pytest.mark.slow
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
    with pytest.raises(ValueError, match="at most the 64 samples of a batch.*There are no more: lower accumulate"):
        tg.fit(model, (x, y), batch_size=100, accumulate=80, verbose=0)
    with pytest.raises(ValueError, match="at most the 8 samples of a batch.*Raise batch_size"):
        tg.fit(model, (x, y), batch_size=8, accumulate=80, verbose=0)
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, other)
    trained = network()
    trained.fit(x, y, verbose=0)  # an optimizer that has counted already
    with pytest.raises(ValueError, match="6 in the first one"):
        tg.fit(trained, batches.batch(6), accumulate=8, verbose=0)
    # The last one of an epoch may be smaller.
    assert tg.fit(network(), batches.batch(60), epochs=2, accumulate=8, verbose=0).epoch == [0, 1]


def test_savings_that_no_epoch_is_left_for_are_off_and_the_last_epoch_is_at_full_size():
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    data = np.ones((8, 16, 16, 3), "float32"), np.ones((8, 2), "float32")
    run = tg.fit(model, data, epochs=1, resize=0.5, keep_fraction=0.5, verbose=0)
    assert run.savings["resize"].startswith("off: 1 epoch, of") and run.savings["keep_fraction"].startswith("off: ")
    run = tg.fit(model, data, epochs=4, resize=0.5, keep_fraction=0.5, verbose=0)
    assert run.savings["resize"] == "on: from (8, 8) to (16, 16)" and run.savings["keep_fraction"].startswith("on: ")
    resizing = ProgressiveResizing(model, 0.5, epochs=3)
    assert [resizing.size_at(epoch) for epoch in range(3)] == [(8, 8), (8, 8), (16, 16)]


def test_what_ends_a_training_or_changes_its_rate_is_listed():
    options = {"schedule": "cosine", "early_stopping": "loss", "patience": 1, "max_kwh": 0.5, "verbose": 0}
    savings = tg.fit(network(), arrays(), **options).savings
    assert savings["schedule"] == "on: the learning rate follows cosine"
    assert savings["early_stopping"] == "on: after 1 epoch in which loss did not improve"
    assert savings["max_kwh"] == "on: ends when 0.5 kWh are spent" and "max_co2_kg" not in savings


def test_batch_normalization_that_is_not_fused_is_named():
    norms = [keras.layers.BatchNormalization(name=name, dtype=name) for name in ("float32", "float64")]
    model = keras.Sequential([keras.Input((4,)), *norms])
    model.compile("sgd", "mse")
    run = tg.fit(model, (np.ones((8, 4)), np.ones((8, 4))), verbose=0)
    assert run.savings["fuse_batch_norm"].startswith("on: 1 of 2 layers; 'float64' is not: it computes in float64")
    with pytest.warns(UserWarning, match="1 of 2.*computes in float64"):
        tg.fuse_batch_norm(model)


def test_data_that_keras_would_stumble_over_is_refused():
    x, y = arrays()
    with pytest.raises(ValueError, match="data.*batches of shape.*received samples of.*batch"):
        tg.fit(network(), tf.data.Dataset.from_tensor_slices((x, y)), verbose=0)
    with pytest.raises(ValueError, match="at least one"):
        tg.fit(network(), (x[:0], y[:0]), verbose=0)


@pytest.mark.slow
def test_a_quantized_model_in_parts_is_not_told_that_its_data_is_of_another_scale():
    x, y = arrays()

    def train(scale: float) -> None:
        quantized = tg.quantize(network(), calibration_data=x)
        quantized.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        options = {"batch_size": 16, "accumulate": 4, "verbose": 0}
        tg.fit(quantized, (scale * x, y), callbacks=[tg.UpdateCompression()], **options)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        train(1.0)
        train(0.5)
    with pytest.warns(UserWarning, match="calibration data was between"):
        train(99.0)


_WORKER = """
import json, os, sys
index, first, second = sys.argv[1:]
cluster = {"worker": [f"127.0.0.1:{first}", f"127.0.0.1:{second}"]}
os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": int(index)}})
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras, numpy as np, tfgreen as tg
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, name="out")])
    model = tg.prune(model, schedule=tg.ConstantSparsity(0.5, begin_step=0, frequency=1))
    model.compile("sgd", "mse")
x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(8)
try:
    tg.fit(model, data, callbacks=[tg.UpdateCompression()], verbose=0)
except ValueError as error:
    assert "keras#20585" in str(error), error
else:
    raise AssertionError("fit works now")

def one(batch):
    x, y = batch
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x, training=True) - y) ** 2) / strategy.num_replicas_in_sync
    model.optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)

step = tf.function(lambda iterator: strategy.run(one, args=(next(iterator),)))
iterator, update = iter(strategy.experimental_distribute_dataset(data)), tg.UpdateCompression(model)
for _ in range(4):
    step(iterator)
    update.step()
print(tg.strip(model).get_layer("out").kernel.numpy().ravel().tolist())
"""


@pytest.mark.slow
def test_many_machines_train_in_a_loop_of_ones_own_and_fit_says_so():
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        ports = [str(one.getsockname()[1]) for one in (first, second)]
    start = [sys.executable, "-c", _WORKER]
    workers = [
        subprocess.Popen([*start, str(index), *ports], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for index in range(2)
    ]
    found = []
    for worker in workers:
        out, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors[-2000:]
        found.append(json.loads(out.strip().splitlines()[-1]))
    assert found[0] == found[1] and found[0].count(0.0) == 2


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"keep_fraction": 0.5}, {"accumulate": 2, "schedule": "cosine"}], ids=str)
def test_a_distiller_trains_with_what_it_can(options):
    losses = keras.distillation.LogitsDistillation()
    distiller = tg.Distiller(network(), network(), distillation_losses=losses)
    distiller.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    run = tg.fit(distiller, arrays(), epochs=4, batch_size=16, verbose=0, **options)
    assert run.epoch == [0, 1, 2, 3] and run.savings["steps_per_execution"].startswith("off: 1")
    assert all(run.savings[name].startswith("on") for name in options if name != "schedule")
