from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tests import zoo
from tests.replicas import on_two_replicas

SAMPLES = 53  # batches of 16 end in one of 5


def data(rng_seed: int = 0):
    rng = np.random.default_rng(rng_seed)
    return rng.normal(size=(SAMPLES, 12)).astype("float32"), rng.integers(0, 3, SAMPLES)


def network(*more) -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = layers.Dense(16, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-2), name="hidden")
    return keras.Sequential([keras.Input((12,)), hidden, *more, layers.Dense(3, activation="softmax", name="out")])


def trained(model, parts, optimizer=None, callbacks=(), batch=16, x=None, loss="sparse_categorical_crossentropy"):
    x, y = (data()[0] if x is None else x), data()[1]
    weight = np.random.default_rng(1).uniform(0, 2, SAMPLES).astype("float32")
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    run = tg.fit(
        model, (x, y, weight), epochs=3, batch_size=batch, accumulate=parts, shuffle=False, verbose=0,
        callbacks=list(callbacks), steps_per_execution=1,
    )  # fmt: skip
    return model.get_weights(), run.history


def furthest(one, other) -> float:
    return max(float(np.abs(a.astype("float64") - b).max()) for a, b in zip(one, other, strict=True))


def assert_same_training(make, optimizer=lambda: None, callbacks=lambda: (), **options):
    (whole, history), (parts, other) = (
        trained(make(), count, optimizer(), callbacks(), **options) for count in (1, 4)
    )
    assert furthest(whole, parts) < 1e-6
    for name in history:
        np.testing.assert_allclose(history[name], other[name], atol=1e-5)


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "clipped": lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.1),
    "schedule": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 12)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch", [13, *zoo.slow(16, 26)])  # the last of 1, of 5, of 1 sample
def test_the_weights_are_those_of_whole_batches(optimizer, batch):
    assert_same_training(network, OPTIMIZERS[optimizer], batch=batch)


@pytest.mark.slow
def test_a_masked_and_a_clustered_model():
    schedule = tg.PolynomialDecay(0.0, 0.5, 0, 8, frequency=2)
    assert_same_training(lambda: tg.prune(network(), schedule=schedule), callbacks=lambda: [tg.UpdateCompression()])
    assert_same_training(
        lambda: tg.cluster(network(), number_of_clusters=4), callbacks=lambda: [tg.UpdateCompression()]
    )


RANGES = {
    "moving": {},
    "moving, then frozen": {"freeze_after": 4},
    "frozen": {"freeze_after": 0},
    "learned": {"ranges": "learned"},
}


@pytest.mark.parametrize("ranges", RANGES)
@pytest.mark.parametrize("batch", [13, *zoo.slow(16)])
def test_a_quantized_model(ranges, batch):
    """Parts of a batch have other extremes than the whole, and every layer sees what the ranges before it leave."""

    def make():
        return tg.quantize(network(), calibration_data=data()[0], **RANGES[ranges])

    assert_same_training(make, callbacks=lambda: [tg.UpdateCompression()], batch=batch)


@pytest.mark.slow
def test_a_distiller_of_a_quantized_and_pruned_student():
    def make():
        student = tg.prune(network(), schedule=tg.PolynomialDecay(0.0, 0.5, 0, 8, frequency=2))
        student = tg.quantize(student, calibration_data=data()[0])
        return tg.Distiller(network(), student, tg.LogitsDistillation(temperature=2.0))

    assert_same_training(make, callbacks=lambda: [tg.UpdateCompression()])


def test_a_distiller():
    def make():
        return tg.Distiller(network(), network(layers.Dense(8)), tg.LogitsDistillation(temperature=2.0))

    assert_same_training(make)


@pytest.mark.slow
def test_two_devices():
    on_two_replicas("""
x, y = np.random.default_rng(0).normal(size=(52, 12)).astype("float32"), np.random.default_rng(1).integers(0, 3, 52)
def trained(parts, wrap=lambda model: model, callbacks=()):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        hidden = keras.layers.Dense(16, activation="relu")
        model = wrap(keras.Sequential([keras.Input((12,)), hidden, keras.layers.Dense(3, activation="softmax")]))
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    tg.fit(model, (x, y), epochs=3, batch_size=16, accumulate=parts, shuffle=False, verbose=0, callbacks=callbacks)
    return [np.asarray(weight, "float64") for weight in model.get_weights()]
schedule = tg.PolynomialDecay(0.0, 0.5, 0, 8, frequency=2)
for wrap in (
    lambda model: tg.prune(model, schedule=schedule),
    lambda model: tg.quantize(model, calibration_data=x),
):
    one, parts = (trained(count, wrap, [tg.UpdateCompression()]) for count in (1, 4))
    assert max(float(np.abs(a - b).max()) for a, b in zip(one, parts)) < 1e-6
def distiller(model):
    return tg.Distiller(keras.models.clone_model(model), model, tg.LogitsDistillation(temperature=2.0))
for wrap in (lambda model: model, distiller):
    one, parts = (trained(count, wrap) for count in (1, 4))
    assert max(float(np.abs(a - b).max()) for a, b in zip(one, parts)) < 1e-6
""")


def two_outputs() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12,))
    model = keras.Model(inputs, [layers.Dense(1, name="o1")(inputs), layers.Dense(2, name="o2")(inputs)])
    model.compile(keras.optimizers.SGD(0.05), ["mse", "mae"], metrics=[["mae"], ["mse"]], loss_weights=[1.0, 0.3])
    return model


@pytest.mark.parametrize("batch, weighted", [(16, True), (53, False)])  # a shorter last batch; one of known size
def test_the_loss_of_each_output_is_that_of_whole_batches(batch, weighted):
    x, _ = data()
    y = [x[:, :1] ** 2, x[:, 1:3]]
    weight = np.random.default_rng(1).uniform(0, 2, SAMPLES).astype("float32")
    given = (x, y, [weight, weight]) if weighted else (x, y)
    options = {"batch_size": batch, "shuffle": False, "steps_per_execution": 1, "verbose": 0}
    whole, parts = (tg.fit(two_outputs(), given, accumulate=count, **options).history for count in (1, 7))
    for name, values in whole.items():
        np.testing.assert_allclose(values, parts[name], rtol=1e-5, err_msg=name)


def test_a_model_that_is_compiled_by_xla_with_metrics():
    x, y = data()
    found = []
    for count in (1, 4):
        model = network()
        loss = "sparse_categorical_crossentropy"
        model.compile("sgd", loss, metrics=["accuracy"], jit_compile=True)
        options = {"batch_size": 26, "accumulate": count, "shuffle": False, "verbose": 0, "steps_per_execution": 1}
        run = tg.fit(model, (x[:52], y[:52]), **options)
        found.append((model.get_weights(), run.history))
    assert furthest(found[0][0], found[1][0]) < 1e-6
    assert found[0][1]["accuracy"] == pytest.approx(found[1][1]["accuracy"])


def test_positions_of_a_mask_count():
    """Sequences of very different lengths: the loss of each part is the mean over other numbers of positions."""
    x = np.random.default_rng(0).integers(1, 9, (SAMPLES, 7))
    x[np.arange(7) >= np.arange(SAMPLES)[:, None] % 7 + 1] = 0
    y = (x > 4).astype("float32")[..., None]
    found = []
    for parts in (1, 4):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((7,)), layers.Embedding(9, 4, mask_zero=True), layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.5), "mse")
        tg.fit(model, (x, y), batch_size=16, accumulate=parts, shuffle=False, verbose=0)
        found.append(model.get_weights())
    assert furthest(*found) < 1e-6


@pytest.mark.parametrize("masking", ["layer", "class to ignore", "both"])
def test_the_loss_of_masked_positions_is_that_of_whole_batches(masking):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 6, 3)).astype("float32"), rng.integers(0, 4, (20, 6))
    x[::3, 3:], y[:5, 2:] = 0, 0
    found = []
    for parts in (1, 3):
        keras.utils.set_random_seed(0)
        mask = [] if masking == "class to ignore" else [layers.Masking()]
        model = keras.Sequential([keras.Input((6, 3)), *mask, layers.Dense(4)])
        ignored = None if masking == "layer" else 0
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=ignored)
        model.compile(keras.optimizers.SGD(0.5), loss, metrics=["accuracy"])
        run = tg.fit(model, (x, y), epochs=2, batch_size=8, accumulate=parts, shuffle=False, verbose=0)
        found.append((model.get_weights(), run.history))
    assert furthest(found[0][0], found[1][0]) < 1e-6
    for name, values in found[0][1].items():
        np.testing.assert_allclose(values, found[1][1][name], rtol=1e-5, err_msg=name)


def test_a_loss_of_one_number_for_a_batch_is_warned_of():
    def root(y_true, y_pred):
        return tf.sqrt(tf.reduce_mean(tf.square(y_true - y_pred)))

    model = keras.Sequential([keras.Input((12,)), layers.Dense(1)])
    model.compile("sgd", root)
    x, _ = data()
    with pytest.warns(UserWarning, match="loss 'root' returns one number for a batch"):
        tg.fit(model, (x, x[:, :1]), batch_size=16, accumulate=2, verbose=0)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # Keras says so of a generator
def test_a_batch_of_nothing_changes_nothing():
    x, _ = data()

    def batches():
        yield from ((x[a:b], x[a:b, :1]) for a, b in ((0, 8), (8, 8), (8, 17), (17, 22)))

    signature = tuple(tf.TensorSpec((None, size)) for size in (12, 1))
    found = []
    for parts in (1, 4):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((12,)), layers.Dense(1)])
        model.compile("sgd", "mse", metrics=["mae"])
        given = tf.data.Dataset.from_generator(batches, output_signature=signature)
        run = tg.fit(model, given, accumulate=parts, verbose=0)
        found.append((model.get_weights(), run.history))
    assert furthest(found[0][0], found[1][0]) < 1e-6
    for name in ("loss", "mae"):
        assert found[0][1][name] == pytest.approx(found[1][1][name])


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_nothing_to_train_and_a_short_last_batch():
    model = network()
    model.trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = data()
    assert np.isfinite(tg.fit(model, (x, y), epochs=2, batch_size=17, accumulate=3, verbose=0).history["loss"]).all()


def test_a_model_of_a_fixed_batch_size_is_refused():
    model = keras.Sequential([keras.Input((6, 3), batch_size=10), layers.LSTM(4, stateful=True), layers.Dense(2)])
    model.compile("sgd", "mse")
    x = np.ones((20, 6, 3), "float32")
    with pytest.raises(ValueError, match="open batch size.*one of 10 at its input"):
        tg.fit(model, (x, x[:, 0, :2]), batch_size=10, accumulate=2, verbose=0)


def test_a_step_of_a_users_own_and_the_state_of_layers():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.norm = layers.Dense(3), layers.BatchNormalization()

        def call(self, x, training=None):
            return self.norm(self.dense(x), training=training)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(self(x, training=True) - y))
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return {"own": loss}

    keras.utils.set_random_seed(0)
    model = Own()
    x = data()[0]
    model(x)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    run = tg.fit(model, (x, x[:, :3]), batch_size=26, accumulate=4, verbose=0)  # the last batch is of one sample
    still = Own()
    still(x)
    still.compile(keras.optimizers.SGD(0.0), "mse")
    still.norm.trainable = False
    own = tg.fit(still, (x[:26], x[:26, :3]), batch_size=26, accumulate=4, verbose=0).history["own"]
    assert own == [pytest.approx(np.mean((still(x[:26]).numpy() - x[:26, :3]) ** 2), rel=1e-5)]
    assert int(model.optimizer.iterations) == 3 and np.isfinite(run.history["own"]).all()
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    # Four parts of each of two batches, and one of the last: no part that is empty moved the statistics.
    keras.utils.set_random_seed(0)
    again = Own()
    again(x)
    again.compile(keras.optimizers.SGD(0.0), "mse")
    again.norm.moving_mean.assign([1e3] * 3)
    tg.fit(again, (x, x[:, :3]), batch_size=26, accumulate=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(again.norm.moving_mean, 1e3 * 0.99**9, rtol=1e-3)


def test_what_it_cannot_do_is_refused_and_the_model_is_as_before():
    x, y = data()
    model = network()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    with pytest.raises(ValueError, match="sparse_categorical_crossentropy.*reduction.*sum"):
        tg.fit(model, (x, y), batch_size=16, accumulate=2, verbose=0)
    model.compile(keras.optimizers.SGD(gradient_accumulation_steps=2), "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="accumulates itself"):
        tg.fit(model, (x, y), batch_size=16, accumulate=2, verbose=0)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.other = keras.optimizers.Adam()
    with pytest.raises(ValueError, match="one optimizer.*other"):
        tg.fit(model, (x, y), batch_size=16, accumulate=2, verbose=0)
    assert "train_step" not in vars(model)
