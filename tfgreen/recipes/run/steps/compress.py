"""The steps that compress: each a verb, given training samples where it asks for data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras

from tfgreen.recipes.factorize import FactorizeConfig, factorize
from tfgreen.recipes.mask_channels import mask_channels
from tfgreen.recipes.prune_channels import prune_channels
from tfgreen.recipes.prune_channels_config import ChannelPruneConfig
from tfgreen.recipes.recipe.step_settings import NoSettings, PruneStep
from tfgreen.recipes.recipe.steps import next_training
from tfgreen.recipes.run.state import State, Task
from tfgreen.recipes.run.steps.batches import batches_of
from tfgreen.techniques.cluster import ClusterConfig
from tfgreen.techniques.cluster import cluster as cluster_weights
from tfgreen.techniques.correct_bias import correct_bias
from tfgreen.techniques.prune import PruneConfig, prune
from tfgreen.techniques.quantize import quantize
from tfgreen.techniques.quantize_config import QuantizeConfig
from tfgreen.techniques.recalibrate_batch_norm import recalibrate_batch_norm
from tfgreen.training.callbacks import UpdateCompression
from tfgreen.training.schedules import ConstantSparsity, PolynomialDecay, ScheduleLike
from tfgreen.transforms.one_shot.prune_at_once import MEASURES

_RISES_FOR, _UPDATES = 5 / 8, 40  # the share of a training in which sparsity rises, and in how many updates
_HALF = 0.5  # where a target says how many channels go, their sparsity is but a clock
_STATISTICS, _BATCH = 4096, 128  # samples that statistics are taken of, and in batches of how many


def prune_weights(state: State, settings: PruneStep, task: Task) -> State:
    """Zeros, reached little by little within the next step that trains, or at once where none follows or is needed."""
    steps = _steps_ahead(task)
    model, notes = prune(state.model, _rising(settings, steps, task)), tuple[str, ...]()
    if not steps and settings.criterion not in MEASURES:
        UpdateCompression(model).step()
        notes = ("all zeros at once, as no step behind it trains",)
    return dataclasses.replace(state, model=model, notes=notes)


def hold_channels(state: State, settings: ChannelPruneConfig, task: Task) -> State:
    """Channels held at zero, more and more of them within the next step that trains, or at once where none follows."""
    config = dataclasses.replace(settings, calibration_data=task.calibration_data)
    steps = _steps_ahead(task)
    model = mask_channels(state.model, _schedule(settings.ratio or _HALF, steps), config)
    if not steps:
        UpdateCompression(model).step()
    return dataclasses.replace(state, model=model)


def _steps_ahead(task: Task) -> int:
    """The batches of the next step that trains, 0 without one."""
    training = next_training(task.ahead)
    return 0 if training is None else training.epochs * batches_of(task.data.train, training.batch_size)


def _schedule(sparsity: float, total: int) -> ScheduleLike:
    """A sparsity that rises within ``total`` training steps, or is there at once."""
    if not total:
        return ConstantSparsity(sparsity, begin_step=0)
    times = {"begin_step": 0, "end_step": max(1, int(total * _RISES_FOR)), "frequency": max(1, total // _UPDATES)}
    return PolynomialDecay(initial_sparsity=0.0, final_sparsity=sparsity, **times)


def _rising(settings: PruneStep, total: int, task: Task) -> PruneStep:
    """The settings with a schedule over ``total`` training steps, or with samples, those of single layers too."""
    at_once = settings.criterion in MEASURES
    schedule = settings.schedule if at_once or not total else _schedule(settings.sparsity, total)
    layers: Mapping[str, PruneConfig | None] = {
        pattern: _rising(layer, total, task) if isinstance(layer, PruneStep) else layer
        for pattern, layer in settings.layers.items()
    }
    samples = task.calibration_data if at_once else None
    return dataclasses.replace(settings, schedule=schedule, layers=layers, calibration_data=samples)


def cluster(state: State, settings: ClusterConfig, task: Task) -> State:
    """Few values for each kernel."""
    return dataclasses.replace(state, model=cluster_weights(state.model, settings))


def quantize_ranges(state: State, settings: QuantizeConfig, task: Task) -> State:
    """Rounding as the file will have it, with ranges from training samples."""
    config = dataclasses.replace(settings, calibration_data=task.calibration_data)
    return dataclasses.replace(state, model=quantize(state.model, config))


def remove_channels(state: State, settings: ChannelPruneConfig, task: Task) -> State:
    """Fewer channels, for which those that stay make up as far as training samples tell how."""
    config = dataclasses.replace(settings, calibration_data=task.calibration_data)
    return dataclasses.replace(state, model=prune_channels(state.model, config))


def factorize_kernels(state: State, settings: FactorizeConfig, task: Task) -> State:
    """Kernels as products of two smaller ones."""
    config = dataclasses.replace(settings, calibration_data=task.calibration_data)
    found = factorize(state.model, config)
    return dataclasses.replace(state, model=found.model, notes=(repr(found).splitlines()[0],))


def correct(state: State, settings: NoSettings, task: Task) -> State:
    """Biases that make up for what rounding shifts."""
    return dataclasses.replace(state, model=correct_bias(state.model, task.calibration_data))


def recalibrate(state: State, settings: NoSettings, task: Task) -> State:
    """Batch statistics of training samples."""
    count = task.data.train.count
    samples, batch_size = task.data.train.samples(_STATISTICS), _BATCH if count is None else min(_BATCH, count)
    return dataclasses.replace(state, model=recalibrate_batch_norm(state.model, samples, batch_size))


def without_settings(verb: Callable[[keras.Model], keras.Model]) -> Callable[[State, Any, Task], State]:
    """The step of a verb that takes a model and nothing else."""

    def step(state: State, settings: NoSettings, task: Task) -> State:
        return dataclasses.replace(state, model=verb(state.model))

    return step
