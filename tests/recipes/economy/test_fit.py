from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    norm = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, activation="relu"), norm, layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    return x, (x[:, 0] > 0).astype("int64")


class _Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        x, y = arrays()
        return x[16 * index : 16 * index + 16], y[16 * index : 16 * index + 16]


DATA = {
    "arrays": lambda: arrays(),
    "weighted": lambda: (*arrays(), np.ones(64)),
    "dataset": lambda: tf.data.Dataset.from_tensor_slices(arrays()).batch(16),
    "sequence": lambda: _Sequence(),
    "data": lambda: tg.Data.from_arrays(*arrays(), validation=arrays()),
}


@pytest.mark.parametrize("kind", DATA)
def test_it_trains_as_keras_does_on_data_of_every_kind(kind):
    run = tg.fit(network(), DATA[kind](), epochs=4, batch_size=16, shuffle=False, verbose=0)
    plain = network()
    history = plain.fit(*arrays(), epochs=4, batch_size=16, shuffle=False, verbose=0).history
    for name, values in history.items():
        np.testing.assert_allclose(run.history[name], values, rtol=1e-4)
    assert ("val_loss" in run.history) == (kind == "data")
    assert run.epoch == [0, 1, 2, 3] and run.seconds > 0 and not run.stopped


def test_the_result_is_a_table_and_plain_values():
    run = tg.fit(network(), arrays(), batch_size=16, accumulate=2, schedule="cosine", verbose=0)
    assert "accumulate" in str(run) and "1 epoch," in repr(run) and "<table" in run._repr_html_()
    assert run.to_dict()["savings"]["accumulate"] == "on: 2 parts of a batch, one update"


def test_it_stops_early_with_the_best_weights_and_says_so():
    x, y = arrays()
    model = network()
    model.compile(keras.optimizers.SGD(0.0), model.loss)
    run = tg.fit(model, (x, y), epochs=9, early_stopping="loss", patience=2, verbose=0)
    assert len(run.epoch) < 9 and "loss had not improved for 2 epochs" in run.stopped
    budget = tg.fit(network(), (x, y), epochs=9, max_kwh=1e-9, verbose=0)
    assert len(budget.epoch) == 1 and "1e-09 kWh is spent" in budget.stopped and budget.history["budget_used_kwh"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"accumulate": 0}, "accumulate.*>= 1"),
        ({"accumulate": 17, "batch_size": 16}, "accumulate.*at most the 16 samples of a batch"),
        ({"early_stopping": "val_accuracy"}, "Pass validation_data"),
        ({"early_stopping": "acuracy"}, "Did you mean 'accuracy'"),
        ({"max_kwh": -1.0}, "max_kwh"),
        ({"max_co2_kg": 1.0}, "region"),
        ({"resize": 0.5}, "one image input"),
        ({"keep_fraction": 0.0}, "keep_fraction.*> 0"),
        ({"schedule": "linear"}, "schedule.*cosine"),
        ({"mixed_precision": "float8"}, "mixed_precision.*float8"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_named_and_the_model_is_as_before(options, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        tg.fit(model, arrays(), verbose=0, **options)
    assert "train_step" not in vars(model) and model.steps_per_execution == 1


def test_models_and_data_that_do_not_fit_are_named():
    x, y = arrays()
    with pytest.raises(TypeError, match="keras.Model"):
        tg.fit("model", (x, y))
    with pytest.raises(ValueError, match="not compiled"):
        tg.fit(keras.Sequential([keras.Input((4,)), layers.Dense(1)]), (x, y))
    with pytest.raises(TypeError, match="data.*tf.data.Dataset"):
        tg.fit(network(), x)
    with pytest.raises(ValueError, match="as many samples.*63, 64"):
        tg.fit(network(), (x, y[1:]))
    with pytest.raises(TypeError, match="Did you mean 'epochs'"):
        tg.fit(network(), (x, y), epoch=3)
    endless = tf.data.Dataset.from_tensor_slices((x, y)).batch(16).repeat()
    with pytest.raises(ValueError, match="without end.*steps_per_epoch"):
        tg.fit(network(), endless, verbose=0)
    assert len(tg.fit(network(), endless, epochs=2, steps_per_epoch=3, verbose=0).epoch) == 2
    unknown = tf.data.Dataset.from_tensor_slices((x, y)).batch(16).filter(lambda *_: True)
    with pytest.raises(ValueError, match="unknown length"):
        tg.fit(network(), unknown, schedule="cosine", verbose=0)


def test_a_model_evaluates_as_before_after_a_training_of_several_steps_in_a_call():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)).astype("float32"), rng.normal(size=(50, 3)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    run = tg.fit(model, (x, y), epochs=2, validation_data=(x, y), verbose=0)
    assert run.savings["steps_per_execution"].startswith("on: 2")
    by_hand = np.mean((model.predict(x[:16], verbose=0) - y[:16]) ** 2)
    assert model.evaluate(x, y, batch_size=16, steps=1, verbose=0) == pytest.approx(by_hand, rel=1e-5)


def test_callbacks_of_ones_own_see_each_batch():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, seen = np.ones((50, 4), "float32"), []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    run = tg.fit(model, (x, x[:, :1]), batch_size=5, callbacks=[count], verbose=0)
    assert seen == list(range(10)) and "LambdaCallback is called for each batch" in run.savings["steps_per_execution"]
