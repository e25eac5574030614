"""The cache of teacher outputs: right for every sample, noticed when it is not of this teacher and data."""

from __future__ import annotations

import os
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tfgreen.distillation.cached_teacher import ROWS


def network(units: int = 10, activation: str | None = "softmax", width: int = 12) -> keras.Model:
    x = inputs = keras.Input((6,))
    x = layers.Dense(width, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(units, activation=activation, name="head")(x))


def data(count: int = 40):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 6)).astype("float32"), rng.integers(0, 10, count)


def distiller(teacher, path, student=None, losses=None, loss="sparse_categorical_crossentropy", **options):
    losses = losses or [tg.LogitsDistillation()]
    cache = tg.TeacherCache(path, **options) if path is not None else None
    model = tg.Distiller(teacher, student or network(), losses, cache=cache, student_loss_weight=0.3)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


class Counted(keras.layers.Layer):
    """Counts the batches that pass through it."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.rows = tf.Variable(0, trainable=False)

    def call(self, x):
        self.rows.assign_add(tf.shape(x)[0])
        return x


def counted_teacher():
    counter = Counted()
    x = inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(counter(x))), counter


LOSSES = [
    tg.LogitsDistillation(),
    tg.RelationalDistillation(),
    tg.FeatureDistillation("mse", "hidden", "hidden"),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"shuffle": True}, {"shuffle": True, "validation_split": 0.25}])
def test_training_with_the_cache_is_training_without_it_though_samples_are_shuffled(tmp_path, options):
    x, y = data()
    teacher, start = network(), network().get_weights()
    weight = np.linspace(0, 2, len(x)).astype("float32")
    finals, histories = [], []
    for path in (None, tmp_path / "cache"):
        student = network()
        student.set_weights(start)
        model = distiller(teacher, path, student, LOSSES, dtype="float32") if path else distiller(
            teacher, None, student, LOSSES
        )
        keras.utils.set_random_seed(3)
        fit = {"epochs": 3, "batch_size": 8, "verbose": 0, **options}
        histories.append(model.fit(x, y, sample_weight=weight, **fit).history)
        finals.append(student.get_weights())
    for name, values in histories[0].items():
        assert histories[1][name] == pytest.approx(values, rel=1e-5), name
    for a, b in zip(*finals, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_teacher_runs_once_over_the_data_in_two_fits_and_in_the_next_process_not_at_all(tmp_path):
    x, y = data()
    teacher, counter = counted_teacher()
    teacher_again = keras.Model(teacher.input, teacher.output)
    model = distiller(teacher, tmp_path / "cache")
    counter.rows.assign(0)
    model.fit(x, y, epochs=3, verbose=0)
    model.fit(x, y, epochs=3, verbose=0)
    assert counter.rows.numpy() == len(x)
    distiller(teacher_again, tmp_path / "cache").fit(x, y, verbose=0)
    assert counter.rows.numpy() == len(x)
    model.evaluate(x, y, verbose=0)  # validation data has no cache
    assert counter.rows.numpy() == 2 * len(x)


@pytest.mark.parametrize(
    ("options", "most"), [({}, 24), ({"dtype": "int8"}, 16), ({"top_k": 3}, 13), ({"dtype": "float32"}, 44)]
)
def test_bytes_a_sample_for_ten_classes(tmp_path, options, most):
    x, y = data(2000)
    distiller(network(), tmp_path / "cache", **options).fit(x, y, verbose=0)
    assert (tmp_path / "cache").stat().st_size / len(x) <= most


# --------------------------------------------------------------------------------- stale, damaged, half-written
def test_a_stale_cache_is_noticed_and_made_anew(tmp_path):
    x, y = data()
    path, teacher = tmp_path / "cache", network()
    distiller(teacher, path).fit(x, y, verbose=0)
    stamp = path.read_bytes()
    distiller(teacher, path).fit(x, y, verbose=0)
    assert path.read_bytes() == stamp

    teacher.get_layer("head").bias.assign(np.arange(10, dtype="float32"))
    with pytest.warns(UserWarning, match="cache.*is of other teachers; it is made anew"):
        distiller(teacher, path).fit(x, y, verbose=0)
    changed = x.copy()
    changed[17, 2] += 1e-6
    with pytest.warns(UserWarning, match="is of other data"):
        distiller(teacher, path).fit(changed, y, verbose=0)
    with pytest.warns(UserWarning, match="is of other outputs and layers"):
        distiller(teacher, path, losses=LOSSES).fit(changed, y, verbose=0)
    with pytest.warns(UserWarning, match="is of other outputs and layers"):
        distiller(teacher, path, losses=LOSSES, dtype="int8").fit(changed, y, verbose=0)


@pytest.mark.parametrize("damage", ["byte", "description", "half", "empty", "text"])
def test_a_damaged_or_half_written_cache_is_noticed_and_made_anew(tmp_path, damage):
    x, y = data()
    path, teacher = tmp_path / "cache", network()
    distiller(teacher, path).fit(x, y, verbose=0)
    whole = path.read_bytes()
    broken = {
        "byte": bytes([whole[0] ^ 1]) + whole[1:],
        "description": whole.replace(b'"teachers"', b'"teacherz"'),
        "half": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"something else entirely, of some length" * 3,
    }[damage]
    assert broken != whole
    path.write_bytes(broken)
    with pytest.warns(UserWarning, match="is (damaged|incomplete).*made anew"):
        distiller(teacher, path).fit(x, y, verbose=0)
    assert path.read_bytes() == whole


def test_an_interrupted_write_leaves_nothing(tmp_path):
    x, y = data()
    x[-1] = 3e38  # the teacher overflows
    with pytest.raises(ValueError, match="teacher.*finite outputs"):
        distiller(network(), tmp_path / "cache").fit(x, y, verbose=0)
    assert os.listdir(tmp_path) == []
    with pytest.raises(OSError, match="missing.*cannot be written"):
        distiller(network(), tmp_path / "missing" / "cache").fit(*data(), verbose=0)


# --------------------------------------------------------------------------------------------------- tf.data
def test_a_dataset_gets_its_teacher_outputs_before_it_is_shuffled(tmp_path):
    x, y = data()
    teacher = network()
    model = distiller(teacher, tmp_path / "cache", dtype="float32")
    dataset = model.with_teacher(tf.data.Dataset.from_tensor_slices((x, y)).batch(16))
    logits = keras.Model(teacher.input, teacher.get_layer("hidden").output)(x).numpy()
    kernel, bias = teacher.get_layer("head").get_weights()
    expected = logits @ kernel + bias
    where = {sample.tobytes(): index for index, sample in enumerate(x)}
    shuffled = dataset.unbatch().shuffle(40, seed=1).batch(7)
    seen = []
    for inputs, _ in shuffled:
        rows = inputs[ROWS]["0/softmax//values"].numpy()
        found = [where[sample.tobytes()] for sample in inputs["tfgreen_inputs"].numpy()]
        seen += found
        wanted = expected[found]
        np.testing.assert_allclose(rows, wanted - wanted.max(-1, keepdims=True), atol=1e-5)
    assert sorted(seen) == list(range(40)) and seen != sorted(seen)
    counted = shuffled.apply(tf.data.experimental.assert_cardinality(6))  # or Keras warns of the end of the data
    assert np.isfinite(model.fit(counted, epochs=2, shuffle=False, verbose=0).history["loss"]).all()
    # the same file serves the arrays
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(x, y, verbose=0)


def test_a_litert_teacher_is_cached_and_still_runs_for_validation(tmp_path):
    x, y = data(16)
    lite = tg.convert(network())
    losses = [tg.LogitsDistillation(from_logits=(False, None))]
    model = distiller(lite, tmp_path / "cache", losses=losses)
    history = model.fit(x, y, epochs=2, validation_data=(x, y), verbose=0).history
    assert not model.jit_compile
    assert np.isfinite(history["loss"] + history["val_loss"]).all()


def test_a_dataset_that_is_shuffled_or_augmented_too_early_is_noticed(tmp_path):
    x, y = data()
    model = distiller(network(), tmp_path / "cache")
    early = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(40).batch(16)
    with pytest.raises(ValueError, match="batch 0.*samples that it yielded before.*after with_teacher"):
        model.with_teacher(early)
    noise = tf.random.Generator.from_seed(0)
    augmented = tf.data.Dataset.from_tensor_slices((x, y)).batch(16).map(lambda a, b: (a + noise.normal([6]), b))
    with pytest.raises(ValueError, match="batch 0"):
        model.with_teacher(augmented)
    # one that changes later, when it is read for training
    shift = tf.Variable(0.0)
    changing = tf.data.Dataset.from_tensor_slices((x, y)).batch(16).map(lambda a, b: (a + shift, b))
    attached = model.with_teacher(changing)
    shift.assign(1.0)
    with pytest.raises(tf.errors.OpError, match="samples that it yielded before"):
        next(iter(attached))


def test_data_whose_samples_cannot_be_told_apart_is_refused(tmp_path):
    x, y = data()
    model = distiller(network(), tmp_path / "cache")
    for refused in (tf.data.Dataset.from_tensor_slices((x, y)).batch(8), iter([(x, y)])):
        with pytest.raises(TypeError, match="arrays.*distiller.with_teacher"):
            model.fit(refused, verbose=0)
    with pytest.raises(ValueError, match="finite.*repeat"):
        model.with_teacher(tf.data.Dataset.from_tensors((x, y)).repeat())
    with pytest.raises(ValueError, match="at least one batch"):
        model.with_teacher(tf.data.Dataset.from_tensor_slices((x, y)).take(0))
    with pytest.raises(TypeError, match="tf.data.Dataset"):
        model.with_teacher(x)
    with pytest.raises(ValueError, match="with_teacher.*TeacherCache"):
        distiller(network(), None).with_teacher(tf.data.Dataset.from_tensors((x, y)))


def test_a_student_that_augments_at_random_is_told_what_the_cache_holds(tmp_path):
    images = np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype("float32")

    def model(*first):
        return keras.Sequential([keras.Input((4, 4, 3)), *first, layers.Flatten(), layers.Dense(3)])

    cache = tg.TeacherCache(tmp_path / "cache")
    student = model(layers.RandomFlip("horizontal"))
    distilled = tg.Distiller(model(), student, tg.LogitsDistillation(), cache=cache, student_loss_weight=0)
    distilled.compile("sgd")
    with pytest.warns(UserWarning, match="random_flip.*cached teacher outputs"):
        distilled.fit(images, verbose=0)


def test_a_cache_without_fixed_shapes_is_refused(tmp_path):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, layers.Dense(4)(inputs))
    student = keras.Model(inputs, layers.Dense(4)(inputs))
    with pytest.raises(ValueError, match="fixed shape"):
        tg.Distiller(model, student, tg.LogitsDistillation(), cache=tg.TeacherCache("unused"))


@pytest.mark.parametrize("activations", [("softmax", "sigmoid"), ("sigmoid", "softmax")])
def test_losses_that_take_the_same_logits_as_classes_and_as_labels_are_kept_beside_each_other(tmp_path, activations):
    x, _ = data()
    teacher, student = network(activation=None), network(activation=None)
    losses = [tg.LogitsDistillation(activation=activation) for activation in activations]
    found = []
    for cache in (None, tg.TeacherCache(tmp_path / "cache", dtype="float32")):
        model = tg.Distiller(teacher, student, losses, cache=cache, student_loss_weight=0)
        model.compile(keras.optimizers.SGD(0.0))
        found.append(model.fit(x, batch_size=len(x), verbose=0).history["loss"][0])
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_top_k_must_leave_a_class_out():
    with pytest.raises(ValueError, match="top_k.*fewer than the 10 classes"):
        distiller(network(), "unused", top_k=10)
