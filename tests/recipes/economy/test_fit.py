from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tfgreen.recipes.economy.metric_names import better_is


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", DATA)
def test_it_trains_as_keras_does_on_data_of_every_kind(kind):
    run = tg.fit(network(), DATA[kind](), epochs=4, batch_size=16, shuffle=False, verbose=0)
    plain = network()
    history = plain.fit(*arrays(), epochs=4, batch_size=16, shuffle=False, verbose=0).history
    for name, values in history.items():
        np.testing.assert_allclose(run.history[name], values, rtol=1e-4)
    assert ("val_loss" in run.history) == (kind == "data")
    assert run.energy.interval is None or " to " in repr(run)
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
        ({"early_stopping": "val_accuracy"}, "Pass validation_data[.]"),
        ({"early_stopping": "val_acc"}, "Pass validation_data, and early_stopping='val_accuracy'"),
        ({"early_stopping": "acuracy"}, "Did you mean 'accuracy'"),
        ({"early_stopping": "acc"}, "Did you mean 'accuracy'"),
        ({"early_stopping": "LOSS"}, "Did you mean 'loss'"),
        ({"early_stopping": ""}, "early_stopping.*such as 'val_loss'"),
        ({"early_stopping": "val_loos", "validation_data": arrays()}, "Did you mean 'val_loss'"),
        ({"callbacks": ["x"]}, "callbacks.*Keras callbacks.*str"),
        ({"validation_data": arrays()[0]}, r"validation_data.*Pass \(x, y\)"),
        ({"validation_data": tuple(one[:0] for one in arrays())}, "validation_data.*at least one"),
        ({"validation_data": tf.data.Dataset.from_tensor_slices(arrays()).batch(8).repeat()}, "validation_data.*ends"),
        ({"validation_data": tf.data.Dataset.from_tensor_slices(arrays())}, "validation_data.*batches of shape"),
        ({"validation_data": tg.Data.from_arrays(*arrays(), validation_share=0)}, "no validation split"),
        ({"max_kwh": -1.0}, "max_kwh"),
        ({"max_co2_kg": 1.0}, "region"),
        ({"resize": 0.5}, "one image input"),
        ({"keep_fraction": 0.0}, "keep_fraction.*> 0"),
        ({"schedule": "linear"}, "schedule.*cosine"),
        ({"mixed_precision": "float8"}, "mixed_precision.*float8"),
    ],
    ids=range(21),
)
def test_settings_that_do_not_fit_are_named_and_the_model_is_as_before(options, message):
    model = network()
    before = model.get_weights()
    with pytest.raises((ValueError, TypeError), match=message):
        tg.fit(model, arrays(), verbose=0, **options)
    assert "train_step" not in vars(model) and model.steps_per_execution == 1
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(model.optimizer.iterations) == 0


def test_models_and_data_that_do_not_fit_are_named():
    x, y = arrays()
    with pytest.raises(TypeError, match="keras.Model"):
        tg.fit("model", (x, y))
    with pytest.raises(ValueError, match="not compiled"):
        tg.fit(keras.Sequential([keras.Input((4,)), layers.Dense(1)]), (x, y))
    with pytest.raises(TypeError, match="data.*tf.data.Dataset"):
        tg.fit(network(), x)
    with pytest.raises(TypeError, match="data: expected arrays.*received float.*np.asarray"):
        tg.fit(network(), (x.tolist(), y.tolist()))
    with pytest.raises(TypeError, match="np.asarray"):
        tg.fit(network(), (x, y, [1.0] * 64))
    with pytest.raises(ValueError, match="as many samples.*63, 64"):
        tg.fit(network(), (x, y[1:]))
    with pytest.raises(TypeError, match="Did you mean 'epochs'"):
        tg.fit(network(), (x, y), epoch=3)
    endless = tf.data.Dataset.from_tensor_slices((x, y)).batch(16).repeat()
    with pytest.raises(ValueError, match="without end.*steps_per_epoch"):
        tg.fit(network(), endless, verbose=0)
    assert len(tg.fit(network(), endless, epochs=2, steps_per_epoch=3, verbose=0).epoch) == 2
    none = tf.data.Dataset.from_tensor_slices((x, y)).batch(16).filter(lambda *_: False)
    for name, given in (("data", (none, None)), ("validation_data", ((x, y), none))):
        expected = f"^{name}: expected at least one batch"
        with pytest.raises(ValueError, match=expected), pytest.warns(UserWarning, match="ran out"):
            tg.fit(network(), given[0], validation_data=given[1], verbose=0)
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["split", "data", "list"])
def test_validation_data_is_taken_in_the_forms_of_data(kind):
    x, y = arrays()
    data = tg.Data.from_arrays(x, y, validation=(x[:20], y[:20]))
    given = {"split": data.validation, "data": data, "list": [x[:20], y[:20]]}[kind]
    model = network()
    run = tg.fit(model, data.train, validation_data=given, callbacks=keras.callbacks.Callback(), verbose=0)
    assert run.history["val_loss"] == [pytest.approx(model.evaluate(x[:20], y[:20], verbose=0)[0], rel=1e-4)]


def test_a_metric_that_a_step_of_ones_own_lacks_leaves_the_weights_as_they_were():
    class Own(keras.Sequential):
        def train_step(self, data):
            return {"own_loss": super().train_step(data)["loss"]}

    model = Own([keras.Input((4,)), layers.Dense(1)])
    model.compile("adam", "mse")
    x, _ = arrays()
    before = model.get_weights()
    with pytest.raises(ValueError, match="early_stopping.*Did you mean 'own_loss'"):
        tg.fit(model, (x, x[:, :1]), early_stopping="owm_loss", verbose=0)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert tg.fit(model, (x, x[:, :1]), early_stopping="own_loss", verbose=0).epoch == [0]


def test_a_metric_stops_in_its_direction_and_one_without_is_named():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [layers.Dense(2, name="o1")(inputs), layers.Dense(1, name="o2")(inputs)])
    own = keras.metrics.SparseCategoricalAccuracy(name="right")
    mean = keras.metrics.MeanMetricWrapper(lambda y, outputs: outputs, name="level")
    model.compile("sgd", [keras.losses.SparseCategoricalCrossentropy(from_logits=True), "mse"], metrics=[own, mean])
    x, y = arrays()
    for name, mode in (("o1_right", "max"), ("val_o2_loss", "min"), ("loss", "min")):
        assert better_is(model, name) == mode
    with pytest.raises(ValueError, match="better high or low.*received 'o2_level'.*EarlyStopping"):
        tg.fit(model, (x, [y, x[:, :1]]), early_stopping="o2_level", verbose=0)


@pytest.mark.slow
def test_samples_that_are_left_out_count_as_seen():
    model = network()
    logger = tg.EnergyLogger(verbose=False)
    run = tg.fit(model, arrays(), epochs=4, batch_size=16, keep_fraction=0.25, callbacks=[logger], verbose=0)
    history = run.history
    seen = np.array(history["energy_joules"]) / np.array(history["joules_per_sample"])
    np.testing.assert_allclose(seen, 64, rtol=1e-6)
    tiny = tg.fit(model, arrays(), epochs=4, keep_fraction=0.0001, verbose=0)
    assert "the hardest 0.01 %" in tiny.savings["keep_fraction"]
