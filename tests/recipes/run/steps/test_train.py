"""The steps that train."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.recipes.run import tasks
from tests.recipes.run.tasks import stepped
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.recipe.step_settings import DistillStep, TrainStep
from tfgreen.recipes.run.state import State
from tfgreen.recipes.run.steps.train import distill, rate_of, train
from tfgreen.techniques.prune import prune
from tfgreen.training.schedules import PolynomialDecay


def test_training_learns_on_a_copy():
    task = tasks.task_of()
    before = task.original.get_weights()
    state = State(task.original)
    after = stepped(train, state, TrainStep(epochs=15, learning_rate=0.03), task)
    for old, new in zip(before, task.original.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert task.metric.evaluate(after.model, task.data.train).value > 0.9
    assert {curve.title for curve in after.curves} >= {"train: loss", "train"}
    assert after.notes[0].startswith("loss: sparse_categorical_crossentropy")


def test_the_rate_rises_and_falls_to_its_share():
    rate = rate_of(TrainStep(learning_rate=0.4, warm_up=0.2, final_share=0.25), 100)
    assert [round(float(rate(step)), 6) for step in (0, 10, 20, 60, 100)] == [0.0, 0.2, 0.4, 0.25, 0.1]
    falling = rate_of(TrainStep(learning_rate=0.4), 100)
    assert [round(float(falling(step)), 6) for step in (0, 50, 100)] == [0.4, 0.2, 0.0]
    assert rate_of(TrainStep(learning_rate=0.4, schedule=None), 100) == 0.4


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", "lion"])
def test_optimizers_by_name(optimizer):
    task = tasks.task_of(tasks.regression(), tasks.sums())
    after = stepped(train, State(task.original), TrainStep(epochs=1, optimizer=optimizer), task)
    assert any((old != new).any() for old, new in zip(task.original.get_weights(), after.model.get_weights()))


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (tasks.regression, tasks.sums), (tasks.segmentation, tasks.masks), (tasks.two_outputs, tasks.kinds_and_sizes),
        (tasks.classifier, tasks.points),
    ],
)  # fmt: skip
def test_a_student_follows_the_original_in_any_task(model, data):
    task = tasks.task_of(model(), data())
    start = task.original.get_weights()
    shaken = State(task.original)
    shaken.model.set_weights([w + 0.05 for w in start])
    settings = DistillStep(epochs=2, student_loss_weight=0.5)
    after = stepped(distill, shaken, settings, task)
    assert after.model is not task.original and "distill: distillation_loss" in {c.title for c in after.curves}


def test_masks_move_while_a_step_trains():
    task = tasks.task_of()
    pruned = prune(task.original, schedule=PolynomialDecay(0.0, 0.5, 0, 5))
    for step, settings in ((train, TrainStep(epochs=2)), (distill, DistillStep(epochs=2))):
        after = stepped(step, State(pruned), settings, task)
        assert np.mean(np.asarray(after.model.layers[0].layer.kernel) == 0) == 0.5


def test_a_residual_student_learns_its_joins_and_images_are_changed_as_the_teacher_allows():
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    x = layers.Add(name="join")([x, layers.Conv2D(4, 3, padding="same")(x)])
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.GlobalMaxPooling2D()(x)))
    rng = np.random.default_rng(0)
    images = rng.random((48, 8, 8, 1)).astype("float32")
    task = tasks.task_of(model, Data.from_arrays(images, np.arange(48) % 2, validation_share=0.25))
    student = State(keras.models.clone_model(model))
    join = [keras.Model(m.input, m.get_layer("join").output) for m in (model, student.model)]
    before = np.square(join[0](images) - join[1](images)).mean()
    settings = DistillStep(epochs=30, learning_rate=0.01, augment="auto", student_loss_weight=0.0)
    after = stepped(distill, student, settings, task)
    learned = keras.Model(after.model.input, after.model.get_layer("join").output)
    assert np.square(join[0](images) - learned(images)).mean() < 0.5 * before
    assert any("images are changed at random: " in note for note in after.notes)
