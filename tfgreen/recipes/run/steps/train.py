"""The steps that train: on targets alone, or on the original model as a teacher too."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras

from tfgreen.distillation.distiller import Distiller
from tfgreen.distillation.feature_losses import FeatureDistillation
from tfgreen.distillation.logits_losses import LogitsDistillation
from tfgreen.distillation.losses import AnyLoss
from tfgreen.model.rebuild import rebuild
from tfgreen.recipes.economy.fit import fit
from tfgreen.recipes.recipe.step_settings import DistillStep, TrainStep
from tfgreen.recipes.run.state import State, Task
from tfgreen.recipes.run.steps.augment import harmless
from tfgreen.recipes.run.steps.backup import Backup
from tfgreen.recipes.run.steps.batches import batches_of, epochs_of, is_ordered
from tfgreen.recipes.run.steps.feature_losses import feature_losses
from tfgreen.recipes.run.steps.losses import Losses, losses_of
from tfgreen.recipes.run.steps.watch import Watch
from tfgreen.reports.curves import energy_curve, training_curves
from tfgreen.training.callbacks import UpdateCompression
from tfgreen.transforms.compressed import compressed_layers

_SEEN = 512  # training samples that are looked at first

_OPTIMIZERS: Mapping[str, type[keras.Optimizer]] = {
    "adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop, "nadam": keras.optimizers.Nadam, "lion": keras.optimizers.Lion,
    "adafactor": keras.optimizers.Adafactor,
}


def train(state: State, settings: TrainStep, task: Task) -> State:
    """Train a copy of the model on the targets."""
    model = _copied(state.model)
    losses = losses_of(task.original, task.data.train, task.recipe.loss)
    return dataclasses.replace(_trained(model, state, settings, task, "train", losses), model=model)


def distill(state: State, settings: DistillStep, task: Task) -> State:
    """Train a copy of the model on the targets and on what the original makes of the same samples."""
    student = _copied(state.model)
    losses = losses_of(task.original, task.data.train, task.recipe.loss)
    outputs = _distillation_losses(task.original, losses, settings)
    features, weights = feature_losses(
        task.original, student, task.data.train.samples(_SEEN), settings.feature_weight
    )
    distiller = Distiller(
        task.original, student, [*outputs, *features], [*[1.0] * len(outputs), *weights],
        student_loss_weight=settings.student_loss_weight,
    )  # fmt: skip
    return dataclasses.replace(_trained(distiller, state, settings, task, "distill", losses), model=student)


def _copied(model: keras.Model) -> keras.Model:
    return rebuild(model, lambda path, layer: layer)


def _trained(
    model: keras.Model, state: State, settings: TrainStep, task: Task, title: str, losses: Losses
) -> State:
    """Train in place, or go on where an attempt before was cut off; return what was recorded and said."""
    data, steps = task.data, batches_of(task.data.train, settings.batch_size)
    augment = harmless(task.original, data.train.samples(_SEEN)) if settings.augment == "auto" else settings.augment
    losses.compile(model, _optimizer(settings, settings.epochs * steps))
    # The order of files and batches is another one in each process, and of early stopping Keras keeps no state: these
    # begin anew.
    goes_on = is_ordered(data.train) and settings.early_stopping is None
    backup = Backup(task.unfinished / "epochs" if goes_on and task.unfinished else None, task.seed)
    backup.restore(model)
    watch = Watch(backup, settings.epochs, task)
    callbacks: list[keras.callbacks.Callback] = [watch]
    if compressed_layers(model):
        callbacks.append(UpdateCompression())
    callbacks.append(backup)
    history, stopped = backup.history, ""
    if watch.cut == "" and backup.epoch < settings.epochs:
        epochs = range(backup.epoch, settings.epochs)
        batches = epochs_of(
            data.train, settings.batch_size, epochs, task.seed, shuffle=settings.shuffle, augment=augment
        )
        config = dataclasses.replace(settings, steps_per_epoch=steps, schedule=None)
        given = data.validation.validation_data(settings.batch_size) if "validation" in data.splits else None
        run = fit(model, batches, config, callbacks=callbacks, validation_data=given, verbose=0)
        history = {name: [*history.get(name, []), *values] for name, values in run.history.items()}
        stopped = run.stopped
    curves = [*training_curves(history, title=title), dataclasses.replace(energy_curve(watch.joules), title=title)]
    told = f"images are changed at random: {', '.join(augment)}" if augment else ""
    if settings.augment == "auto" and not augment:
        told = "augment: auto changes nothing, as no change leaves the classes of images as they are"
    notes = (f"loss: {losses.how}", *filter(None, (told, stopped, watch.cut)))
    return dataclasses.replace(state, curves=tuple(curves), notes=notes, cut=watch.cut)


def rate_of(settings: TrainStep, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate of a training of so many steps: up from 0 first, then down along half a cosine."""
    rate = settings.learning_rate
    if settings.schedule != "cosine":
        return rate
    rising = round(settings.warm_up * steps)
    if not rising:
        return keras.optimizers.schedules.CosineDecay(rate, steps, alpha=settings.final_share)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - rising, alpha=settings.final_share, warmup_target=rate, warmup_steps=rising
    )


def _optimizer(settings: TrainStep, steps: int) -> keras.Optimizer:
    options = {"momentum": 0.9} if settings.optimizer == "sgd" else {}
    return _OPTIMIZERS[settings.optimizer](learning_rate=rate_of(settings, steps), **options)


def _distillation_losses(model: keras.Model, losses: Losses, settings: DistillStep) -> list[AnyLoss]:
    """A loss for each output: of the logits of classes, of any other output as it is."""
    names = list(getattr(model, "output_names", None) or [None])
    found: list[AnyLoss] = []
    for name in names:
        output = name if len(names) > 1 else None
        if losses.is_of_classes(name, names):
            found.append(LogitsDistillation(temperature=settings.temperature, output=output))
        else:
            found.append(FeatureDistillation(output=output))
    return found
