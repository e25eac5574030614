"""The report of a run: its files measured, its budget judged, its steps told."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

from tfgreen.energy.carbon.amount import EnergyAmount
from tfgreen.energy.carbon.break_even import break_even
from tfgreen.recipes.data.split import Split
from tfgreen.recipes.measure.measure_variants import measure_variants, report_metric
from tfgreen.recipes.progress import Progress
from tfgreen.recipes.recipe.step_settings import NoSettings, TargetStep
from tfgreen.recipes.run.account import Account, run_limits
from tfgreen.recipes.run.keys import step_key
from tfgreen.recipes.run.limits import file_limits
from tfgreen.recipes.run.record import Record
from tfgreen.recipes.run.runner import Outcome
from tfgreen.recipes.run.state import Task
from tfgreen.recipes.run.steps.export import ORIGINAL
from tfgreen.recipes.run.store import Store
from tfgreen.recipes.run.told import own_warnings
from tfgreen.reports.environment import environment
from tfgreen.reports.layers import LayerRow, layer_rows
from tfgreen.reports.metric import Metric
from tfgreen.reports.report import RunReport
from tfgreen.reports.variant import Variant

_STEP = "measure"
_ROWS = 64  # samples on which the errors of layers are measured


def measured_on(task: Task) -> Split:
    """The split that the figures of a report are of: test, or where there is none validation, or train."""
    return list(task.data.splits.values())[-1]


def measured(task: Task, outcome: Outcome, store: Store, progress: Progress) -> tuple[Record, Path]:
    """The figures of all files, as a step of their own: from disk where they were measured before; and its folder."""
    asked = any(step.name == "energy" and step.settings is not None for step in task.recipe.steps)
    joules = asked or task.recipe.budget.max_joules is not None
    key = step_key(outcome.key, _STEP, NoSettings(), joules, task.region)
    place = store.place(len(task.recipe.steps) + 1, _STEP, key)
    found = store.read(place, key)
    if found is not None:
        return found, place
    split, state = measured_on(task), outcome.state
    account = Account(outcome.spent, None, task.region)
    with progress.step(f"measure the files on {split.name}"), account, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        metric = task.metric if split.has_targets else None
        variants = measure_variants(state.exports, split, metric, region=task.region, joules=joules)
        first, last = state.exports[ORIGINAL], state.exports[state.last]
        layers = layer_rows(last.model, last.lite, before=first.model, x=split.samples(_ROWS))
        spent = account.step
    values = {"variants": [v.to_dict() for v in variants], "layers": [row.to_dict() for row in layers]}
    notes = tuple(dict.fromkeys(own_warnings(said)))
    record = Record(name=_STEP, key=key, settings={"split": split.name}, spent=spent, notes=notes, values=values)
    store.write(place, record, state, state, task)
    return record, place


def make_report(task: Task, outcome: Outcome, record: Record) -> RunReport:
    """The report of steps that are done, and of what :func:`measured` found."""
    variants = [Variant.from_dict(variant) for variant in record.values["variants"]]
    first, chosen = variants[0], variants[-1]
    spent, budget = outcome.spent + record.spent, task.recipe.budget
    paid = None
    if first.energy is not None and chosen.energy is not None and spent.joules:
        paid = break_even(first.energy, chosen.energy, EnergyAmount(spent.joules, None, spent.source))
    of_steps = [limit for record in outcome.records for limit in record.limits]
    limits = file_limits(budget, _with_arena(task, outcome, chosen), first, task.metric)
    return RunReport(
        variants=variants,
        title=f"{task.original.name} on {task.data.source}: {task.recipe.name}",
        metric=_named_metric(task),
        chosen=chosen.name,
        limits=[*limits, *of_steps, *run_limits(budget, spent)],
        steps=[*(done.told() for done in outcome.records), record.told()],
        skipped=outcome.skipped,
        layers=[LayerRow(**row) for row in record.values["layers"]],
        curves=[curve for done in outcome.records for curve in done.curves],
        break_even=paid,
        environment=environment(),
        seed=task.seed,
    )


def _named_metric(task: Task) -> Metric:
    """The metric by its name; on training data, which says little of other samples, it is called so."""
    metric = report_metric(task.metric)
    on_training = task.metric is not None and measured_on(task) is task.data.train
    return dataclasses.replace(metric, name=f"{metric.name} on training data") if on_training else metric


def _with_arena(task: Task, outcome: Outcome, variant: Variant) -> Variant:
    """The variant with the memory that its tensors take on a microcontroller, where the recipe checks for one."""
    configs = [step.config for step in task.recipe.steps if step.settings is not None]
    if not any(isinstance(config, TargetStep) and config.target == "tflm" for config in configs):
        return variant
    planned = outcome.state.exports[variant.name].lite.arena_bytes.planned_bytes
    sources = {**variant.sources, "memory_bytes": "estimated: tensors on a microcontroller, scratch buffers left out"}
    return dataclasses.replace(variant, memory_bytes=planned, sources=sources)
