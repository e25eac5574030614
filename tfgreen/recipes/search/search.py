"""search: find the settings of a recipe that suit a model, its data and a budget."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import keras
from typing_extensions import Unpack

from tfgreen.checks import check_integer, check_number, check_option
from tfgreen.config import resolve_config
from tfgreen.deploy.convert import convert
from tfgreen.errors import FileError, invalid_state, invalid_type, invalid_value
from tfgreen.files import made_folder
from tfgreen.recipes.data.data import Data
from tfgreen.recipes.measure.measure_variants import Export
from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.progress import Progress
from tfgreen.recipes.recipe.budget import OF_RUN, Budget, BudgetOptions
from tfgreen.recipes.recipe.recipe import AnyRecipe, Recipe
from tfgreen.recipes.run.folder import locked
from tfgreen.recipes.run.keys import hash_of, identity
from tfgreen.recipes.run.optimize import make_task
from tfgreen.recipes.run.runner import carry_out
from tfgreen.recipes.run.state import Task
from tfgreen.recipes.run.store import Store
from tfgreen.recipes.search.around import first_settings, picked, space_around
from tfgreen.recipes.search.conclude import conclude
from tfgreen.recipes.search.evaluate import (
    FIGURES,
    STAGES,
    CarryOut,
    Evaluation,
    bounds_of,
    check_stages,
    file_energy,
    file_figures,
)
from tfgreen.recipes.search.problem import Objective, Problem
from tfgreen.recipes.search.result import SearchResult
from tfgreen.recipes.search.space import Space
from tfgreen.recipes.search.spending import Spending
from tfgreen.typing import FilePath, PlainDict

ObjectiveName = Literal["metric", "size_bytes", "gzip_bytes", "latency_ms", "memory_bytes", "energy"]
_OBJECTIVES = ("metric", "size_bytes", "gzip_bytes", "latency_ms", "memory_bytes", "energy")
_NOISY = {"latency_ms": 2, "memory_bytes": 2, "energy": 2}  # significant digits that a second measurement confirms


def search(
    model: keras.Model,
    data: Data,
    recipe: AnyRecipe = "balanced",
    *,
    output: FilePath,
    budget: Budget | None = None,
    trials: int = 30,
    storage: FilePath | None = None,
    objectives: Sequence[ObjectiveName] | None = None,
    stages: Sequence[int] = STAGES,
    max_trainings: float | None = 15,
    metric: Metric | str | None = None,
    region: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **bounds: Unpack[BudgetOptions],
) -> SearchResult:
    """Find the settings of a recipe that are best for a model under a budget.

    A candidate is made without any training first: one that breaks a bound of size, time, memory or energy goes no
    further. Then its trainings are cut to 1 epoch, to 3, and not at all. Each step of the search is a stage of one
    candidate, new or not: of that from which the front of accuracy, size and time can expect most, by a forecast of
    what each will come to (Gaussian processes over the settings and the stages before). That a candidate was dropped
    means that others promised more to the end. Candidates share the steps that are equal at their beginning.

    Several processes, on several machines with a database as ``storage``, share a search: start the same call in each.
    What a process was trying that is killed is tried again, and the same call goes on with a search that ended. One
    process with one seed tries the same candidates each time, as far as their figures are the same (times are not).

    The folder ``output`` gets the report (``report.html``, ``.json``, ``.md``), ``search.json``, a folder for each
    candidate of the front in ``front``, and ``model.tflite`` and ``recipe.yaml`` of the best one. Choices are made on
    the validation split; the front is measured on the test split once, at the end.

    Args:
        model: A trained Keras model of any kind, which is not changed.
        data: What it was trained on, with targets.
        recipe: A recipe, as for :func:`tg.optimize`, with settings left open: ``{choice: [...]}``, ``{range: [low,
            high]}``. If it leaves none open, the space around it is searched: other shares of channels and weights,
            other learning rates, steps left out. Its own settings, or the first options, are tried first.
        output: The folder of the search.
        budget: Bounds, in place of those of the recipe; its fields may be given as keyword arguments, too.
            ``max_hours``, ``max_kwh`` and ``max_co2`` are those of the whole search, of all processes together; no
            stage is begun that is expected to go beyond them. (The front is measured after that.)
        trials: Candidates to try, by all processes together.
        storage: Where the study is kept: None for the file ``study.journal`` in the folder, the path of another, or
            the URL of a database (``"postgresql://user@host/studies"``).
        objectives: What is to be good, the metric first; None for metric, size (gzip size, if that alone is bounded),
            latency, and energy where it is measured (an estimate goes with the latency).
        stages: The longest training, in epochs, of each stage before the last; 0 leaves trainings out.
        max_trainings: End the search when it has trained for as many epochs as so many of the first candidate's whole
            trainings. None for no such end.
        metric: What the model is judged by, as for :func:`tg.optimize`.
        region: ISO 3166 alpha-3 code of the country whose grid feeds the machine; None gives no CO2 figures.
        seed: Of the search, and of each run.
        progress: Where to show how far the search is.

    Returns:
        The front, the best of it, and what is in the way if there is none.

    Raises:
        TypeError, ValueError: An argument does not fit, as for :func:`tg.optimize`, the data has no targets or no
            validation split, no candidate could be made at all, or Optuna is not installed.
        FileError: The folder or the storage cannot be opened.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2)])
        >>> x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
        >>> data = tg.Data.from_arrays(x, (x[:, 0] > 0).astype(int), test_share=0.2)
        >>> recipe = [{"prune_channels": {"ratio": {"choice": [0.25, 0.5]}}}, {"convert": {"quantization": "float16"}}]
        >>> found = tg.search(model, data, recipe, output="found", objectives=("metric", "size_bytes"), trials=5)
        >>> len(found.candidates), len(found.front) > 0, found.ended
        (2, True, 'All candidates of the space are tried.')
    """
    _check_installed()
    check_integer("trials", trials, minimum=1)
    check_number("max_trainings", max_trainings, above=0, optional=True)
    check_stages(stages)
    _check_objectives(objectives)
    from tfgreen.recipes.search.explore import explore
    from tfgreen.recipes.search.study import Study

    open_recipe = Recipe.of(recipe)
    open_recipe = open_recipe if open_recipe.space else space_around(open_recipe)
    space = Space(open_recipe.space)
    start = first_settings(space)
    given = resolve_config(Budget, open_recipe.budget if budget is None else budget, bounds)
    task = make_task(model, data, picked(open_recipe, space, start), metric, given, {}, region, seed)
    if task.metric is None:
        sentence = f"The data ({data.source}) has no targets, by which a search could tell good candidates from bad."
        raise invalid_state(sentence, "Pass targets, or run the recipe posttraining with tg.optimize.")
    higher = task.metric.direction == "higher"
    of_run = {name: getattr(given, name) for name in OF_RUN if getattr(given, name) is not None}
    of_files = dataclasses.replace(given, **{name: None for name in OF_RUN})
    task = dataclasses.replace(task, recipe=dataclasses.replace(open_recipe, budget=of_files))
    progress = progress or Progress()
    with made_folder(output) as folder, _own_store(folder) as store:
        with progress.step("measure the model as it is"):
            original = Export(model, convert(model))
            names, base = _base(original, task, objectives)
        known = identity(task)
        key = hash_of(known, task.recipe.to_dict(), names, list(stages))
        kept = folder / ".candidates" / key[:12]  # what another model, other data or another seed came to is not this
        evaluation = Evaluation(task, space, (*stages, None), list(base), _carried_out(store, known), kept)
        problem = Problem(
            space=space, objectives=tuple(_objective(name, higher) for name in names), evaluate=evaluation,
            bounds=bounds_of(of_files, base, task.metric), stages=len(stages) + 1, start=(start,),
            epochs=evaluation.epochs, reference=base,
        )  # fmt: skip
        study = Study(problem, f"{task.recipe.name}-{key[:12]}", storage=storage or folder / "study.journal", seed=seed)
        with progress.step(f"search among {_count(space)}") as say:
            ended = explore(
                problem, study, trials=trials, region=region, say=say,
                budget={**of_run, **_epoch_budget(max_trainings, evaluation.epochs(start, -1))},
            )
        with _alone(folder), progress.step("measure the front"):
            spending = Spending.of(study.stages())
            return conclude(problem, study.candidates(), spending, evaluation, original, ended, folder)


def _check_installed() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise invalid_state("tg.search needs Optuna, which is not installed.", 'pip install "tfgreen[search]"')


def _check_objectives(objectives: Sequence[str] | None) -> None:
    if objectives is None:
        return
    if isinstance(objectives, str) or not isinstance(objectives, Sequence):
        raise invalid_type("objectives", expected=f"a sequence of names of {_OBJECTIVES}", received=objectives)
    for name in objectives:
        check_option("objectives", name, _OBJECTIVES)
    if len(set(objectives)) < len(objectives) or not objectives:
        expected = "one name or more, each once"
        raise invalid_value("objectives", expected=expected, received=tuple(objectives))


def _base(
    original: Export, task: Task, objectives: Sequence[ObjectiveName] | None
) -> tuple[list[str], dict[str, float]]:
    """The objectives, and the figures of the float32 file: all that objectives and bounds are about."""
    budget, lite = task.recipe.budget, original.lite
    names: list[str] = list(objectives or ("metric", "size_bytes", "latency_ms"))
    if objectives is None:
        if budget.max_gzip is not None and budget.max_size is None:
            names[1] = "gzip_bytes"
        if file_energy(lite, task).source not in ("estimate", "unavailable"):
            names.append("energy")
    bounded = [figure for bound, (figure, _) in FIGURES.items() if getattr(budget, bound) is not None]
    base = {"size_bytes": float(lite.size_bytes), "gzip_bytes": float(lite.gzip_bytes)}
    base |= file_figures(lite, task, [*names, *bounded])
    if task.metric is not None:
        base["metric"] = task.metric.evaluate(lite, task.data.validation).value
    missing = [name for name in names if name not in base]
    if missing:
        raise invalid_state(f"objectives: this machine gives no {missing[0]} of the float32 file.", "Leave it out.")
    return names, base


def _objective(name: str, higher: bool) -> Objective:
    return Objective(name, name == "metric" and higher, _NOISY.get(name))


def _epoch_budget(max_trainings: float | None, epochs: int) -> dict[str, float]:
    return {} if max_trainings is None or not epochs else {"max_epochs": max_trainings * epochs}


def _count(space: Space) -> str:
    return f"{space.size:,.0f} candidates" if math.isfinite(space.size) else "candidates"


def _carried_out(store: Store, known: PlainDict) -> CarryOut:
    """Carries a recipe out, taking from the store what is done already."""

    def carried_out(task: Task) -> Export:
        state = carry_out(task, store, known).state
        return state.exports[state.last]

    return carried_out


@contextlib.contextmanager
def _own_store(folder: Path) -> Iterator[Store]:
    """The finished steps that are this process's alone: those of the first place that no other holds."""
    with contextlib.ExitStack() as stack:
        for number in itertools.count(1):
            place = folder / ".steps" / str(number)
            place.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(place))
            except FileError:
                continue
            break
        yield Store(place)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other processes of this search that write their results."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder))
                break
            except FileError:
                time.sleep(0.5)
        yield
