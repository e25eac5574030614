"""EnergyLogger: figures of each epoch in History, CSV and TensorBoard, and the whole told after the first."""

from __future__ import annotations

import csv
import gc
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.energy.meter import JOULES_PER_KWH

KEYS = {"energy_joules", "energy_kwh", "joules_per_sample", "predicted_kwh", "predicted_low_kwh", "predicted_high_kwh"}


def network():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512, "relu"), keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    return model


def arrays(count=600):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 64)), rng.normal(size=(count, 4))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # CSVLogger leaves a file open
def test_every_callback_behind_it_sees_its_figures(tmp_path, capsys):
    logger = tg.EnergyLogger(region="DEU")
    behind = [keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    x, y = arrays()
    history = network().fit(x, y, validation_split=0.5, epochs=3, verbose=0, callbacks=[logger, *behind]).history
    assert set(history) >= KEYS | {"co2e_kg"} and history["energy_joules"] == logger.epochs
    np.testing.assert_allclose(np.array(history["joules_per_sample"]) * 300, logger.epochs)
    np.testing.assert_allclose(np.array(history["energy_kwh"]) * JOULES_PER_KWH, logger.epochs)
    per_kwh = logger.reading.intensity.kg_per_kwh
    np.testing.assert_allclose(np.array(history["energy_kwh"]) * per_kwh, history["co2e_kg"])
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["energy_kwh"]) for row in rows] == pytest.approx(history["energy_kwh"])
    printed = capsys.readouterr().out
    assert printed.count("3 epochs will use") == 1 and "told after 1 epoch" in printed
    assert sum(logger.epochs) <= logger.reading.joules


def test_an_event_file_holds_them(tmp_path):
    callbacks = [tg.EnergyLogger(verbose=False), tg.TrainingBoard(tmp_path)]
    history = network().fit(*arrays(64), epochs=2, verbose=0, callbacks=callbacks).history
    found = {}
    for record in tf.data.TFRecordDataset([str(file) for file in tmp_path.glob("events*")]):
        event = tf.compat.v1.Event.FromString(record.numpy())
        found.update({(value.tag, event.step): float(tf.make_ndarray(value.tensor)) for value in event.summary.value})
    for name in KEYS:
        assert [found[f"epoch/{name}", epoch] for epoch in range(2)] == pytest.approx(history[name], rel=1e-5)


class Burn(keras.callbacks.Callback):
    """Move a counter: 50 J with the first batch of a training or validation, 1 J with each; 2 J around an epoch."""

    def __init__(self, tree):
        super().__init__()
        self.tree, self.batches, self.tests = tree, 0, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.tree.burn(2.0)

    def on_train_batch_begin(self, batch, logs=None):
        self.tree.burn(1.0 if self.batches else 51.0)
        self.batches += 1

    def on_test_batch_begin(self, batch, logs=None):
        self.tree.burn(1.0 if self.tests else 51.0)
        self.tests += 1


@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_the_whole_is_told_after_the_first_epoch(rapl, validation, monkeypatch):
    monkeypatch.setattr("tfgreen.energy.logger._SECONDS", 0.0)
    burn, told = Burn(rapl(names=("package-0",))), []
    logger = tg.EnergyLogger(meter=tg.EnergyMeter(components=("cpu",)), verbose=False)
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: told.append(logger.prediction))
    options = {"validation_split": validation, "batch_size": 8, "epochs": 5, "verbose": 0}
    network().fit(*arrays(400), callbacks=[burn, logger, keep], **options)
    whole = 5 * 2 + burn.batches + burn.tests + (100 if validation else 50)
    assert sum(logger.epochs) == pytest.approx(whole, rel=1e-3) == logger.reading.joules
    assert told[0].kwh * JOULES_PER_KWH == pytest.approx(whole, rel=0.04)  # it cannot know what is around epochs
    for prediction in told[2:]:
        assert prediction.kwh * JOULES_PER_KWH == pytest.approx(whole, rel=1e-3)
    assert [prediction.after for prediction in told] == [1, 2, 3, 4, 5]
    assert told[-1].interval == (told[-1].kwh, told[-1].kwh)


def test_an_epoch_of_one_batch_tells_nothing_and_the_second_does():
    logger, told = tg.EnergyLogger(verbose=False), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: told.append(dict(logs)))
    network().fit(*arrays(16), epochs=2, verbose=0, callbacks=[logger, keep])
    assert np.isnan(told[0]["predicted_kwh"]) and told[1]["predicted_kwh"] > 0


def test_a_training_that_fails_leaves_nothing_running_and_the_next_counts_anew():
    logger, model, before = tg.EnergyLogger(verbose=False), network(), set(threading.enumerate())

    def fail(*_):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model.fit(*arrays(), verbose=0, callbacks=[logger, keras.callbacks.LambdaCallback(on_epoch_end=fail)])
    model.fit(*arrays(), epochs=2, verbose=0, callbacks=[logger])
    assert len(logger.epochs) == 2 and logger.reading.joules >= sum(logger.epochs)
    with pytest.raises(RuntimeError, match="stop"):
        model.fit(*arrays(), verbose=0, callbacks=[
            tg.EnergyLogger(meter=tg.EnergyMeter(external=lambda: 5.0), verbose=False),
            keras.callbacks.LambdaCallback(on_epoch_end=fail),
        ])  # fmt: skip
    del model, logger
    gc.collect()
    assert not any(thread.name == "tfgreen energy" for thread in set(threading.enumerate()) - before)


def test_an_evaluation_by_itself_and_a_training_that_was_cut_off():
    logger, model = tg.EnergyLogger(verbose=False), network()
    model.evaluate(*arrays(), verbose=0, callbacks=[logger])

    def interrupt(epoch, logs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(*arrays(), verbose=0, callbacks=[logger, keras.callbacks.LambdaCallback(on_epoch_end=interrupt)])
    assert logger.reading.joules >= sum(logger.epochs) > 0
    model.evaluate(*arrays(), verbose=0, callbacks=[logger])
    logger.close()


def test_a_model_of_its_own_loss_takes_the_samples_that_are_given():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            return {"mine": keras.ops.mean(self(data[0]))}

    model = Own()
    model.compile("sgd")
    x, y = arrays()
    history = model.fit(x, y, verbose=0, callbacks=[tg.EnergyLogger(samples=600, verbose=False)]).history
    assert history["joules_per_sample"][0] * 600 == pytest.approx(history["energy_joules"][0])


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"region": "Germny"}, ValueError, "DEU"),
        ({"region": "DEU", "meter": tg.EnergyMeter()}, ValueError, "EnergyMeter\\(region"),
        ({"meter": 3}, TypeError, "meter"),
        ({"samples": 0}, ValueError, "samples"),
        ({"verbose": 1}, TypeError, "verbose"),
    ],
    ids=range(5),
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        tg.EnergyLogger(**options)


def test_no_reading_is_an_error_that_says_why():
    def broken():
        raise OSError("unplugged")

    logger = tg.EnergyLogger(meter=tg.EnergyMeter(external=broken))
    with pytest.raises(ValueError, match="no energy reading.*unplugged"):
        network().fit(*arrays(), verbose=0, callbacks=[logger])


class Unplugged(keras.callbacks.Callback):
    """A power meter that fails from an epoch on."""

    def __init__(self, epoch):
        super().__init__()
        self.fails, self.epoch = False, epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.fails = epoch >= self.epoch

    def watts(self):
        if self.fails:
            raise OSError("unplugged")
        return 5.0


def test_a_meter_that_fails_on_the_way_ends_no_training():
    unplugged = Unplugged(2)
    logger = tg.EnergyLogger(meter=tg.EnergyMeter(external=unplugged.watts, sample_seconds=0.05), verbose=False)
    with pytest.warns(UserWarning, match="no energy reading since epoch 3 of this training.*unplugged"):
        history = network().fit(*arrays(64), epochs=5, verbose=0, callbacks=[logger, unplugged]).history
    assert len(history["loss"]) == 5 and history["energy_joules"][1] > 0
    assert np.isnan(history["energy_joules"][2:]).all() and len(logger.epochs) == 5


def test_a_training_that_goes_on_is_predicted_from_its_own_first_epoch():
    logger = tg.EnergyLogger(verbose=False)
    network().fit(*arrays(), initial_epoch=8, epochs=10, verbose=0, callbacks=[logger])
    assert (logger.prediction.epochs, logger.prediction.after) == (2, 2)
    assert logger.prediction.kwh == pytest.approx(sum(logger.epochs) / JOULES_PER_KWH)
