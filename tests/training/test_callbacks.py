from __future__ import annotations

import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.transforms.compressed import compressed_layers


def dense(units: int = 10, width: int = 20) -> keras.Model:
    return keras.Sequential([keras.Input((width,)), layers.Dense(units, name="out")])


def pruned(schedule: tg.PolynomialDecay | tg.ConstantSparsity, optimizer="sgd", **compile_options) -> keras.Model:
    model = tg.prune(dense(), tg.PruneConfig(schedule=schedule))
    model.compile(optimizer, "mse", **compile_options)
    return model


def data(count: int = 64):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 20)).astype("float32"), rng.normal(size=(count, 10)).astype("float32")


class Recorder(keras.callbacks.Callback):
    """Share of zeros in the stored kernel after every batch."""

    def __init__(self):
        super().__init__()
        self.zeros = []

    def on_train_batch_end(self, batch, logs=None):
        self.zeros.append(float((self.model.get_layer("out").layer.kernel.numpy() == 0).mean()))


def test_masks_follow_the_schedule_step_by_step_and_the_stored_kernel_is_sparse_after_every_batch():
    schedule = tg.PolynomialDecay(0.0, 0.8, begin_step=2, end_step=8, frequency=2)
    model, recorder = pruned(schedule, "adam"), Recorder()
    model.fit(*data(), batch_size=4, epochs=1, verbose=0, callbacks=[tg.UpdateCompression(), recorder])
    last = [0.0] + [max((s for s in range(n + 1) if schedule.updates_at(s)), default=None) for n in range(1, 17)]
    expected = [0.0 if step is None else round(schedule.sparsity_at(step) * 200) / 200 for step in last[1:]]
    np.testing.assert_allclose(recorder.zeros, expected, atol=0.0051)
    assert recorder.zeros[-1] == 0.8


def test_the_first_update_happens_at_begin_step_and_step_0_is_before_the_first_batch():
    recorder = Recorder()
    model = pruned(tg.ConstantSparsity(0.5, begin_step=0))
    model.fit(*data(4), batch_size=4, verbose=0, callbacks=[recorder, tg.UpdateCompression()])
    assert recorder.zeros == [0.5]


@pytest.mark.parametrize("per_execution", [1, 3, 16])
def test_steps_per_execution_ends_at_the_same_sparsity(per_execution):
    schedule = tg.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=16, frequency=4)
    model = pruned(schedule, steps_per_execution=per_execution)
    history = model.fit(*data(), batch_size=4, epochs=2, verbose=0, callbacks=[tg.UpdateCompression()])
    assert history.history["sparsity"][-1] == 0.8
    assert int(model.get_layer("out").chains[0].transforms[0].step.numpy()) == 32


@pytest.mark.slow
def test_interrupted_saved_and_continued_in_a_new_process_equals_the_uninterrupted_run(tmp_path):
    schedule = tg.PolynomialDecay(0.0, 0.9, begin_step=0, end_step=24, frequency=5)
    x, y = data()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}

    keras.utils.set_random_seed(1)
    whole = pruned(schedule, "adam")
    whole.fit(x, y, epochs=2, callbacks=[tg.UpdateCompression()], **options)

    keras.utils.set_random_seed(1)
    half = pruned(schedule, "adam")
    with pytest.warns(UserWarning, match="their schedule goes on to 90.0 % at step 24"):
        half.fit(x, y, epochs=1, callbacks=[tg.UpdateCompression()], **options)
    half.save(tmp_path / "half.keras")
    code = (
        "import keras, numpy as np, tfgreen as tg\n"
        f"data = np.load({str(tmp_path / 'data.npz')!r})\n"
        f"model = keras.models.load_model({str(tmp_path / 'half.keras')!r})\n"
        f"model.fit(data['x'], data['y'], epochs=1, callbacks=[tg.UpdateCompression()], **{options!r})\n"
        f"model.save({str(tmp_path / 'resumed.keras')!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    resumed = keras.models.load_model(tmp_path / "resumed.keras")
    for expected, got in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(expected, got, atol=1e-6, err_msg=expected.path)


def test_training_without_the_callback_is_heard_of_in_the_first_epoch():
    model = pruned(tg.ConstantSparsity(0.5, begin_step=0))
    with pytest.warns(UserWarning, match=r"callbacks=\[tg.UpdateCompression\(\)\]"):
        model.fit(*data(4), verbose=0)


def test_inference_and_training_with_the_callback_warn_of_nothing():
    model = pruned(tg.ConstantSparsity(0.5, begin_step=0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.predict(data(4)[0], verbose=0)
        model.evaluate(*data(4), verbose=0)
        model.fit(*data(4), verbose=0, callbacks=[tg.UpdateCompression()])
    assert not [w.message for w in caught if issubclass(w.category, UserWarning)]


def test_a_shared_layer_steps_once_per_batch():
    model = tg.prune(zoo.shared_layer(), tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=3, frequency=1)))
    model.compile("sgd", zoo.loss("shared_layer"))
    x, y = zoo.sample("shared_layer", 8), zoo.targets("shared_layer", 8)
    with pytest.warns(UserWarning, match="goes on to 50.0 % at step 3"):
        model.fit(x, y, batch_size=4, verbose=0, callbacks=[tg.UpdateCompression()])
    assert {int(layer.chains[0].transforms[0].step.numpy()) for _, layer in compressed_layers(model)} == {2}
    assert model.get_layer("shared").chains[0].transforms[0].sparsity == 0


def test_a_training_loop_of_the_users_own():
    import tensorflow as tf

    model = tg.prune(dense(), tg.PruneConfig(schedule=tg.PolynomialDecay(0.0, 0.75, 0, 4, frequency=1)))
    optimizer = keras.optimizers.Adam()
    x, y = data(8)
    callback = tg.UpdateCompression()
    callback.set_model(model)
    callback.on_train_begin()
    for batch in range(6):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        callback.on_train_batch_end(batch)
    callback.on_train_end()
    assert (model.get_layer("out").layer.kernel.numpy() == 0).mean() == 0.75


def test_a_model_without_compressed_layers_is_an_error_that_says_so():
    model = dense()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has no compressed layer.*tg.prune"):
        model.fit(*data(4), verbose=0, callbacks=[tg.UpdateCompression()])


def restored_run(folder, order):
    """Train for an epoch, stop, and train anew from the backup that Keras wrote."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    schedule = tg.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=32, frequency=1)
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    for extra in ([Stop()], []):
        keras.utils.set_random_seed(1)
        model = pruned(schedule)
        callbacks = [tg.UpdateCompression(), keras.callbacks.BackupAndRestore(folder)][::order]
        try:
            model.fit(*data(), callbacks=callbacks + extra, **options)
        except KeyboardInterrupt:
            continue
    keras.utils.set_random_seed(1)
    whole = pruned(schedule)
    whole.fit(*data(), callbacks=[tg.UpdateCompression()], **options)
    return model, whole


@pytest.mark.parametrize("order", [1, -1])
def test_a_backup_that_keras_restores_continues_the_schedule_in_whatever_order_callbacks_are_listed(order, tmp_path):
    model, whole = restored_run(tmp_path, order)
    for expected, got in zip(whole.weights, model.weights, strict=True):
        np.testing.assert_array_equal(expected, got, err_msg=expected.path)


@pytest.mark.parametrize("overwrite_every", [None, 2])
def test_weights_are_sparse_after_an_optimizer_overwrites_them_by_their_averages(overwrite_every):
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=overwrite_every)
    model = pruned(tg.ConstantSparsity(0.5, begin_step=3, frequency=1), optimizer)
    model.fit(*data(), batch_size=4, verbose=0, callbacks=[tg.UpdateCompression()])
    assert (model.get_layer("out").layer.kernel.numpy() == 0).mean() == 0.5


def test_weights_set_before_training_are_masked_from_the_first_batch_on():
    model = pruned(tg.ConstantSparsity(0.5, begin_step=0))
    model.fit(*data(4), verbose=0, callbacks=[tg.UpdateCompression()])
    kernel = model.get_layer("out").layer.kernel
    kernel.assign(np.ones(kernel.shape))
    before = model.evaluate(*data(4), verbose=0)
    history = model.fit(*data(4), verbose=0, callbacks=[tg.UpdateCompression()])
    assert history.history["loss"][0] == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("count", [0, -1, 1.5, "1", True])
def test_a_count_of_steps_must_be_a_positive_integer(count):
    with pytest.raises((TypeError, ValueError), match="count: expected an integer >= 1"):
        tg.UpdateCompression(pruned(tg.ConstantSparsity(0.5, begin_step=0))).step(count)


def test_a_step_without_a_model_or_inside_a_traced_function_says_what_to_do():
    import tensorflow as tf

    with pytest.raises(ValueError, match=r"has no model.*tg.UpdateCompression\(model\)"):
        tg.UpdateCompression().step()
    begun_by_nobody = tg.UpdateCompression()
    begun_by_nobody.set_model(pruned(tg.ConstantSparsity(0.5, begin_step=0)))
    with pytest.raises(ValueError, match=r"training has not begun.*tg.UpdateCompression\(model\)"):
        begun_by_nobody.step()
    with pytest.raises(TypeError, match="model: expected a keras.Model, received str"):
        tg.UpdateCompression("model")
    update = tg.UpdateCompression(pruned(tg.ConstantSparsity(0.5, begin_step=0)))
    with pytest.raises(ValueError, match="inside a tf.function.*Call it after the function"):
        tf.function(update.step, autograph=False)()


@pytest.mark.parametrize("verb", ["prune", "cluster", "quantize"])
def test_weights_that_become_nan_are_named(verb):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="relu", name="hidden"), layers.Dense(4)])
    x, y = np.ones((16, 8), "float32"), np.ones((16, 4), "float32")
    options = {"calibration_data": x} if verb == "quantize" else {}
    result = getattr(tg, verb)(model, **options)
    result.compile(keras.optimizers.SGD(1e25), "mse")
    with pytest.raises(ValueError, match="layer 'hidden'.*NaN.*lower the learning rate"):
        result.fit(x, y, batch_size=4, verbose=0, callbacks=[tg.UpdateCompression()])


def test_a_loop_of_the_users_own_is_told_of_nan_within_a_hundred_steps():
    model = tg.prune(dense(), schedule=tg.ConstantSparsity(0.5, begin_step=0, frequency=1000))
    update = tg.UpdateCompression(model)
    bias = model.layers[0].layer.bias
    bias.assign(bias * np.nan)
    with pytest.raises(ValueError, match="'bias'.*NaN"):
        for _ in range(100):
            update.step()


def test_tensorflow_does_not_warn_of_retracing_when_a_model_is_fitted_many_times(caplog):
    dense = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model = tg.prune(dense, schedule=tg.ConstantSparsity(0.5, begin_step=0))
    model.compile("sgd", "mse")
    x = np.ones((4, 4), "float32")
    with caplog.at_level("WARNING", "tensorflow"):
        for _ in range(12):
            model.fit(x, x[:, :1], verbose=0, callbacks=[tg.UpdateCompression()])
    assert not [record for record in caplog.records if "retracing" in record.getMessage()]
