"""The steps that train: on targets alone, or on the original model as a teacher too."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from tfgreen.distillation.distiller import Distiller
from tfgreen.distillation.losses import FeatureDistillation, LogitsDistillation
from tfgreen.energy.logger import EnergyLogger
from tfgreen.energy.meter import EnergyMeter
from tfgreen.model.rebuild import rebuild
from tfgreen.recipes.economy.fit import fit
from tfgreen.recipes.recipe.step_settings import DistillStep, TrainStep
from tfgreen.recipes.run.losses import Losses, losses_of
from tfgreen.recipes.run.state import State, Task
from tfgreen.reports.curves import Curve, energy_curve, training_curves
from tfgreen.training.callbacks import UpdateCompression
from tfgreen.transforms.compressed import compressed_layers


def train(state: State, settings: TrainStep, task: Task) -> State:
    """Train a copy of the model on the targets."""
    model = _copied(state.model)
    losses = losses_of(task.original, task.data.train, task.recipe.loss)
    losses.compile(model, _optimizer(settings))
    curves, notes = _fit(model, settings, task, "train")
    return dataclasses.replace(state, model=model, curves=curves, notes=(f"loss: {losses.how}", *notes))


def distill(state: State, settings: DistillStep, task: Task) -> State:
    """Train a copy of the model on the targets and on what the original makes of the same samples."""
    student = _copied(state.model)
    losses = losses_of(task.original, task.data.train, task.recipe.loss)
    distiller = Distiller(
        task.original, student, _distillation_losses(task.original, losses, settings),
        student_loss_weight=settings.student_loss_weight,
    )  # fmt: skip
    losses.compile(distiller, _optimizer(settings))
    curves, notes = _fit(distiller, settings, task, "distill")
    return dataclasses.replace(state, model=student, curves=curves, notes=(f"loss: {losses.how}", *notes))


def _copied(model: keras.Model) -> keras.Model:
    return rebuild(model, lambda path, layer: layer)


def _fit(model: keras.Model, settings: TrainStep, task: Task, title: str) -> tuple[tuple[Curve, ...], tuple[str, ...]]:
    """Train in place; return what was recorded, and what was said."""
    logger = EnergyLogger(meter=EnergyMeter(task.region), verbose=False)
    callbacks: list[keras.callbacks.Callback] = [logger]
    if compressed_layers(model):
        callbacks.append(UpdateCompression())
    with task.progress.step(title) as say:

        def show(epoch: int, logs: dict[str, float]) -> None:
            told = [f"{name} {logs[name]:.4g}" for name in ("loss", "val_loss") if name in logs]
            say(f"epoch {epoch + 1} of {settings.epochs}, {', '.join(told)}", (epoch + 1) / settings.epochs)

        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=show))
        run = fit(model, task.data, settings, callbacks=callbacks, verbose=0)
    learned = {name: values for name, values in run.history.items() if not _is_account(name)}
    curve = energy_curve(logger.epochs, logger.first_prediction)
    curves = (*training_curves(learned, title=title), dataclasses.replace(curve, title=f"{title}: energy"))
    return curves, (run.stopped,) if run.stopped else ()


def _is_account(name: str) -> bool:
    """Whether a name in the history is of the account of energy, not of the learning."""
    return any(part in name for part in ("energy", "joules", "kwh", "co2e"))


def _optimizer(settings: TrainStep) -> keras.Optimizer:
    options = {"momentum": 0.9} if settings.optimizer == "sgd" else {}
    config = {"learning_rate": settings.learning_rate, **options}
    return keras.optimizers.get({"class_name": settings.optimizer, "config": config})


def _distillation_losses(model: keras.Model, losses: Losses, settings: DistillStep) -> list[Any]:
    """A loss for each output: of the logits of classes, of any other output as it is."""
    names = list(getattr(model, "output_names", None) or [None])
    given = losses.loss
    by_output = given if isinstance(given, dict) else dict(zip(names, given)) if isinstance(given, list) else {}
    found = []
    for name in names:
        of_classes = "crossentropy" in str(getattr(by_output.get(name, given), "name", by_output.get(name, given)))
        output = name if len(names) > 1 else None
        loss = LogitsDistillation(temperature=settings.temperature, output=output) if of_classes else None
        found.append(loss or FeatureDistillation(output=output))
    return found
