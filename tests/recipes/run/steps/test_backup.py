"""A training that is cut off and goes on comes to the weights of one that is not."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest

from tfgreen.distillation.distiller import Distiller
from tfgreen.distillation.logits_losses import LogitsDistillation
from tfgreen.recipes.data.split import Split
from tfgreen.recipes.economy.fit import fit
from tfgreen.recipes.run.steps.backup import Backup
from tfgreen.recipes.run.steps.batches import epochs_of
from tfgreen.techniques.prune import prune
from tfgreen.techniques.quantize import quantize
from tfgreen.training.callbacks import UpdateCompression
from tfgreen.training.schedules import PolynomialDecay

X = np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype("float32")
SPLIT = Split(X, np.arange(40) % 3)


class CutOff(BaseException):
    """What a kill is like, but for the process."""


class CutOffAfter(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise CutOff


def network():
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dropout(0.3), keras.layers.Dense(3, "softmax")]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])


def pruned():
    return prune(network(), schedule=PolynomialDecay(0.0, 0.7, 0, 8, frequency=2))


KINDS = {
    "plain": network,
    "pruned": pruned,
    "quantized": lambda: quantize(pruned(), calibration_data=X),
    "distilled": lambda: Distiller(network(), pruned(), LogitsDistillation(3.0), student_loss_weight=0.3),
}


def trained(kind, folder, cut_off_after=None):
    model = KINDS[kind]()
    rate = keras.optimizers.schedules.CosineDecay(1e-2, 16)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    backup = Backup(folder, seed=3)
    backup.restore(model)
    callbacks = [] if kind == "plain" else [UpdateCompression()]
    callbacks += [backup] if cut_off_after is None else [backup, CutOffAfter(cut_off_after)]
    batches = epochs_of(SPLIT, 10, range(backup.epoch, 4), 3)
    fit(model, batches, epochs=4, steps_per_epoch=4, callbacks=callbacks, verbose=0)
    student = model.student if kind == "distilled" else model
    return [variable.numpy() for variable in student.weights], backup.history


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_going_on_comes_to_the_same_to_the_bit(tmp_path, kind):
    whole, history = trained(kind, tmp_path / "whole")
    with pytest.raises(CutOff):
        trained(kind, tmp_path / "cut", cut_off_after=1)
    assert os.listdir(tmp_path / "cut") == ["00002"]
    cut, told = trained(kind, tmp_path / "cut")
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one, other)
    assert history == told and len(history["loss"]) == 4


def test_half_an_epoch_on_disk_is_none(tmp_path):
    (tmp_path / ".half").mkdir()
    assert Backup(tmp_path, 0).epoch == 0 and Backup(None, 0).epoch == 0
    model = network()
    before = model.get_weights()
    Backup(tmp_path, 0).restore(model)
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, other)
