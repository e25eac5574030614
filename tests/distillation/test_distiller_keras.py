"""A change of the import from keras.distillation to tfgreen: the same arguments, losses, figures and files."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg

theirs = keras.distillation
KL, HUBER = keras.losses.KLDivergence(), keras.losses.Huber()
LABELS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(width: int = 6, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((5,))
    x = layers.Dense(width, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(4, name="head")(x))


def two_heads(seed: int = 0, as_dict: bool = False) -> keras.Model:
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((5,))
    x = layers.Dense(6, activation="relu")(x)
    outputs = [layers.Dense(4)(x), layers.Dense(3)(x)]
    return keras.Model(inputs, dict(zip("ba", outputs)) if as_dict else outputs)


def data(count: int = 48):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 5)).astype("float32"), rng.integers(0, 4, count)


@keras.saving.register_keras_serializable(package="test")
class Custom(theirs.DistillationLoss):
    """A user's loss of keras.distillation."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return keras.ops.mean(keras.ops.abs(teacher_outputs - student_outputs)) * 2.0

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


class OfOurBase(tg.DistillationLoss):
    """The same after the import has changed."""

    def __init__(self, factor):
        self.factor = factor

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return keras.ops.mean(keras.ops.abs(teacher_outputs - student_outputs)) * self.factor


def train(cls, losses, weights=None, share=0.5):
    student = network(seed=2)
    distiller = cls(network(seed=1), student, losses, weights, share)
    distiller.compile(keras.optimizers.SGD(0.05), LABELS, ["accuracy"])
    history = distiller.fit(*data(), batch_size=16, epochs=2, shuffle=False, verbose=0).history
    return history, student.get_weights()


FEATURES = {"teacher_layer_name": "hidden", "student_layer_name": "hidden"}


@pytest.mark.parametrize(
    ("keras_losses", "our_losses", "weights", "share"),
    [
        (theirs.LogitsDistillation(2.0, KL), tg.LogitsDistillation(2.0), None, 0.5),
        (theirs.LogitsDistillation(loss=KL), tg.LogitsDistillation(loss=KL), None, 0.1),
        (theirs.LogitsDistillation(3.0, "mse"), tg.LogitsDistillation(3.0, "mse"), None, 0.5),
        (theirs.LogitsDistillation(3.0, HUBER), tg.LogitsDistillation(3.0, HUBER), None, 0.5),
        (theirs.FeatureDistillation(), tg.FeatureDistillation(), None, 0.0),
        (theirs.FeatureDistillation("mae", **FEATURES), tg.FeatureDistillation("mae", **FEATURES), None, 0.5),
        (
            [theirs.FeatureDistillation("cosine_similarity", "hidden", "hidden"), theirs.LogitsDistillation(4.0, KL)],
            [tg.FeatureDistillation("cosine_similarity", "hidden", "hidden"), tg.LogitsDistillation(4.0, KL)],
            [0.3, 2.0],
            0.7,
        ),
        (Custom(), OfOurBase(2.0), None, 0.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_training_gives_the_figures_of_keras(keras_losses, our_losses, weights, share):
    expected, trained = train(theirs.Distiller, keras_losses, weights, share)
    for losses in (keras_losses, our_losses):
        history, student = train(tg.Distiller, losses, weights, share)
        assert set(history) == set(expected)
        for name, values in expected.items():
            assert history[name] == pytest.approx(values, rel=1e-4), name
        for a, b in zip(student, trained, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("as_dict", [False, True])
def test_a_list_or_dict_of_losses_over_the_outputs(as_dict):
    """Without labels: Keras's distiller fails on labels of several outputs."""
    x, _ = data()
    some = {"b": KL, "a": None} if as_dict else [KL, None]
    all_of_them = {"b": "mse", "a": "mae"} if as_dict else ["mse", "mae"]
    found = []
    for cls, package in ((theirs.Distiller, theirs), (tg.Distiller, theirs), (tg.Distiller, tg)):
        losses = [package.LogitsDistillation(2.0, some), package.FeatureDistillation(all_of_them)]
        distiller = cls(two_heads(1, as_dict), two_heads(2, as_dict), losses, [1.0, 0.5], 0.0)
        distiller.compile("sgd", "mse")
        found.append(distiller.evaluate(x, batch_size=48, verbose=0, return_dict=True))
    assert found[0]["distillation_loss"] > 0
    for got in found[1:]:
        for name in ("distillation_loss", "student_loss", "total_loss"):
            assert got[name] == pytest.approx(found[0][name], rel=1e-5), name


@pytest.mark.parametrize(
    ("ours", "keras_own"),
    [
        (tg.Distiller.__init__, theirs.Distiller.__init__),
        (tg.Distiller.compile, theirs.Distiller.compile),
        (tg.LogitsDistillation.__init__, theirs.LogitsDistillation.__init__),
        (tg.FeatureDistillation.__init__, theirs.FeatureDistillation.__init__),
    ],
)
def test_arguments_have_the_names_order_and_defaults_of_keras(ours, keras_own):
    def positional(function):
        parameters = inspect.signature(function).parameters.values()
        return [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    assert positional(ours) == positional(keras_own)


def test_our_losses_are_those_of_keras_and_train_in_its_distiller():
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(size=(2, 7, 4)).astype("float32")
    expected = theirs.LogitsDistillation(2.5, KL).compute_loss(teacher, student)
    assert float(tg.LogitsDistillation(2.5).compute_loss(teacher, student)) == pytest.approx(float(expected), rel=1e-5)
    assert train(theirs.Distiller, tg.LogitsDistillation(2.0))[0] == {
        name: pytest.approx(values, rel=1e-4)
        for name, values in train(theirs.Distiller, theirs.LogitsDistillation(2.0, KL))[0].items()
    }


def test_a_distiller_with_losses_of_keras_is_saved_with_its_optimizer(tmp_path):
    x, y = data()
    losses = [theirs.LogitsDistillation(2.0, KL), theirs.FeatureDistillation("mse", "hidden", "hidden"), Custom()]
    losses += [tg.LogitsDistillation(2.0, keras.losses.Huber()), tg.FeatureDistillation(["mae"])]
    distiller = tg.Distiller(network(seed=1), network(seed=2), losses, [1.0, 0.5, 0.1, 0.1, 0.1])
    distiller.compile(loss=LABELS, metrics=["accuracy"])
    distiller.fit(x, y, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    loaded = keras.models.load_model(tmp_path / "distiller.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.Adam) and int(loaded.optimizer.iterations) == 2
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(distiller.evaluate(x, y, verbose=0), rel=1e-6)
    options = {"shuffle": False, "verbose": 0}
    expected = distiller.fit(x, y, **options).history["loss"]
    assert loaded.fit(x, y, **options).history["loss"] == pytest.approx(expected, rel=1e-5)


def test_teachers_weights_and_a_cache_count_for_losses_of_keras_too(tmp_path):
    x, y = data()
    losses = [theirs.LogitsDistillation(2.0, KL), theirs.FeatureDistillation("mse", "hidden", "hidden")]
    teachers, student = [network(seed=1), network(seed=3)], network(seed=2)

    def soft(teacher, **options):
        distiller = tg.Distiller(teacher, student, losses, student_loss_weight=0, **options)
        distiller.compile(keras.optimizers.SGD(0.0), None)
        return distiller.fit(x, batch_size=48, verbose=0).history["loss"][0]

    parts = [soft(teacher) for teacher in teachers]
    cache = tg.TeacherCache(tmp_path / "cache", dtype="float32")
    for options in ({}, {"cache": cache}):
        got = soft(teachers, teacher_weights=[3, 1], **options)
        assert got == pytest.approx(0.75 * parts[0] + 0.25 * parts[1], rel=1e-5)


def test_a_layer_beside_an_output_and_what_keras_says_of_models_that_do_not_fit():
    x, _ = data()
    teacher, student = network(4, seed=1), network(6, seed=2)
    losses = tg.FeatureDistillation(teacher_layer_name="hidden")
    distiller = tg.Distiller(teacher, student, losses, student_loss_weight=0)
    distiller.compile("sgd")
    hidden = keras.Model(teacher.input, teacher.get_layer("hidden").output)(x).numpy()
    expected = np.mean((hidden - student(x).numpy()) ** 2)
    got = distiller.evaluate(x, verbose=0, batch_size=48, return_dict=True)["loss"]
    assert got == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="In teacher model.*nowhere"):
        tg.Distiller(teacher, student, theirs.FeatureDistillation("mse", "nowhere", "hidden"))
    with pytest.raises(ValueError, match="loss: expected one for each of 1 outputs.*received 2"):
        tg.Distiller(teacher, student, tg.FeatureDistillation(["mse", "mse"]))

    class PerSample(theirs.DistillationLoss):
        def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
            return keras.ops.mean(teacher_outputs - student_outputs, axis=-1)

    distiller = tg.Distiller(teacher, student, PerSample(), student_loss_weight=0)
    distiller.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="PerSample.compute_loss: expected a scalar, received shape"):
        distiller.fit(x, verbose=0)
