"""Conclude a search: measure its front on the test split, and write what it found into its folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tfgreen.energy.carbon.break_even import BreakEven, break_even
from tfgreen.energy.carbon.grid import JOULES_PER_KWH
from tfgreen.errors import invalid_state
from tfgreen.files import atomic_folder, write_atomic
from tfgreen.recipes.measure.measure_variants import Export, measure_variants, report_metric
from tfgreen.recipes.run.limits import file_limits
from tfgreen.recipes.run.report import measured_on
from tfgreen.recipes.search.candidate import Candidate
from tfgreen.recipes.search.evaluate import Evaluation
from tfgreen.recipes.search.found import best_of, binding_of, closest_of, front_of
from tfgreen.recipes.search.problem import Problem
from tfgreen.recipes.search.result import FrontPoint, SearchResult
from tfgreen.recipes.search.spending import Spending
from tfgreen.reports.environment import environment
from tfgreen.reports.report import RunReport
from tfgreen.reports.variant import Variant

FRONT, RESULT = "front", "search.json"


def conclude(
    problem: Problem, candidates: Sequence[Candidate], spending: Spending, evaluation: Evaluation, original: Export,
    ended: str, folder: Path,
) -> SearchResult:  # fmt: skip
    """Measure the front, or without one the closest candidate; write the folder; return the result.

    Raises:
        ValueError: No candidate could be made at all.
    """
    known = [one for one in candidates if one.outcome != "failed"]
    if candidates and not known:
        why = candidates[0].reason.rstrip(".")
        raise invalid_state(f"No candidate could be made: {why}.", "Change the recipe or the budget of the search.")
    if not any(one.outcome in ("finished", "infeasible") for one in known):
        fix = "Give the search more; the same call goes on with it."
        raise invalid_state(f"No candidate was tried to its end. {ended}", fix)
    front, closest = front_of(problem, known), closest_of(problem, known)
    binding = "" if front else binding_of(problem, known)
    shown = front or [closest[binding]]
    last = {_name(one): len(one.stages) - 1 for one in shown}  # what was judged: no more is trained for it now
    exports = {_name(one): evaluation.export(problem.space.settings(one.draw), last[_name(one)]) for one in shown}
    task = evaluation.task
    split = measured_on(task)
    metric = task.metric if split.has_targets else None
    joules = any(step.name == "energy" for step in task.recipe.steps) or "energy" in known[0].figures
    exports = {"float32": original, **exports}
    variants = measure_variants(exports, split, metric, region=task.region, joules=joules)
    recipes = {_name(one): evaluation.recipe(problem.space.settings(one.draw), last[_name(one)]) for one in shown}
    best = best_of(problem, front)
    chosen = variants[1 + shown.index(best or shown[0])]
    points = [
        FrontPoint(one, variant, recipes[variant.name], folder / FRONT / variant.name)
        for one, variant in zip(front, variants[1:])
    ]
    report = RunReport(
        variants=variants, title=f"Search for {task.recipe.name} of {task.original.name} on {task.data.source}",
        metric=report_metric(task.metric), chosen=chosen.name,
        limits=file_limits(task.recipe.budget, chosen, variants[0], task.metric),
        steps=[
            {"name": f"candidate {one.number + 1}", "outcome": one.outcome, **one.settings, "notes": [one.reason]}
            for one in candidates
        ],
        break_even=_paid(variants[0], chosen, spending), environment=environment(), seed=task.seed,
    )  # fmt: skip
    result = SearchResult(
        front=tuple(points), best=next((point for point in points if point.candidate is best), None),
        closest=closest, binding=binding, candidates=tuple(candidates), ended=ended, spending=spending,
        trainings=trainings_worth(candidates, spending), improvement=improvement(problem, candidates, front),
        report=report,
    )  # fmt: skip
    _write(result, exports, folder)
    return result


def _name(candidate: Candidate) -> str:
    return f"candidate-{candidate.number + 1}"


def trainings_worth(candidates: Sequence[Candidate], spending: Spending) -> float | None:
    """The epochs of a search as a number of whole trainings."""
    whole = [max(stage.epochs for stage in one.stages) for one in candidates if one.outcome == "finished"]
    return spending.epochs * len(whole) / sum(whole) if any(whole) else None


def improvement(problem: Problem, candidates: Sequence[Candidate], front: Sequence[Candidate]) -> str:
    """Whether the front holds a candidate that dominates that which was tried first, the recipe as it is."""
    start = [problem.space.draw(settings) for settings in problem.start]
    own = next((one for one in candidates if dict(one.draw) in start and one.figures), None)
    if own is None or len(candidates) < 2 or not front:
        return ""
    better = [one for one in front if problem.is_better(one.figures, own.figures)]
    if better:
        return (
            f"Candidate {better[0].number + 1} is at least as good in every objective as the recipe's own settings, "
            f"and better in one (validation split)."
        )
    return "No candidate was found that is as good as the recipe's own settings in every objective, and better in one."


def _paid(before: Variant, after: Variant, spending: Spending) -> BreakEven | None:
    if before.energy is None or after.energy is None or not spending.kwh:
        return None
    return break_even(before.energy, after.energy, spending.kwh * JOULES_PER_KWH)


def _write(result: SearchResult, exports: dict[str, Export], folder: Path) -> None:
    """The files of the front, those of the best one, the result and the report."""
    place = folder / FRONT
    with atomic_folder(place, os.listdir(place) if place.is_dir() else ()) as temporary:
        for point in result.front:
            own = temporary / point.variant.name
            own.mkdir()
            exports[point.variant.name].lite.save(own / "model.tflite")
            write_atomic(own / "recipe.yaml", point.recipe.to_yaml())
    for name in ("model.tflite", "recipe.yaml"):
        if result.best is None:
            (folder / name).unlink(missing_ok=True)
        else:
            shutil.copyfile(result.best.folder / name, folder / name)
    write_atomic(folder / RESULT, json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
    result.report.save(folder)
