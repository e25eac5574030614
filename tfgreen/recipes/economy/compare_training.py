"""compare_training: what each saving of a training saves, and what it costs in the metric, on a user's own model."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfgreen.checks import check_instance, check_integer, check_option
from tfgreen.energy.budget import EnergyBudget
from tfgreen.errors import invalid_value
from tfgreen.model.paths import check_built_model
from tfgreen.model.rebuild import check_compiled, compiled_copy
from tfgreen.recipes.economy.fit import TrainingRun, fit, joules_text, planned
from tfgreen.recipes.economy.fit_data import callback_list
from tfgreen.recipes.economy.metric_names import check_metric, metric_names, unknown_metric
from tfgreen.recipes.economy.training_config import TrainingConfig
from tfgreen.tables import TableResult, counted

PLAIN = "plain"


@dataclasses.dataclass(frozen=True, repr=False)
class TrainingComparison(TableResult):
    """Trainings of one model beside the plain one.

    Attributes:
        runs: The runs of each training by its name, one per round; the first is ``"plain"``, Keras's own ``fit``.
        metric: The metric that was compared.
    """

    runs: dict[str, tuple[TrainingRun, ...]]
    metric: str

    _headings = ("training", "epochs", "seconds", "of plain", "joules", "of plain", "metric", "lowest", "highest")

    def ratio(self, name: str, of: str = "seconds") -> float | None:
        """The median over the rounds of ``"seconds"`` or ``"joules"`` over those of the plain run of the same round.

        Raises:
            ValueError: ``name`` is no training, or ``of`` is neither of the two.
        """
        check_option("of", of, ("seconds", "joules"))
        pairs = zip(self._values(name, of), self._values(PLAIN, of))
        ratios = [one / plain for one, plain in pairs if one is not None and plain]
        return statistics.median(ratios) if ratios else None

    def scores(self, name: str) -> list[float]:
        """The metric at the end of each run: where it stopped early, of its best epoch's weights or near them.

        Raises:
            ValueError: ``name`` is no training.
        """
        return [run.history[self.metric][-1] for run in self._named(name)]

    def _values(self, name: str, of: str) -> list[float | None]:
        return [run.seconds if of == "seconds" else run.energy.joules for run in self._named(name)]

    def _named(self, name: str) -> tuple[TrainingRun, ...]:
        check_option("name", name, tuple(self.runs))
        return self.runs[name]

    def _headline(self) -> str:
        rounds = counted(len(self.runs[PLAIN]), "round")
        return f"{counted(len(self.runs), 'training')}, {rounds}, {self.metric}"

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for name in self.runs:
            epochs = sorted({len(run.epoch) for run in self.runs[name]})
            cells = [name, " to ".join(map(str, dict.fromkeys((epochs[0], epochs[-1]))))]
            for of in ("seconds", "joules"):
                values = [value for value in self._values(name, of) if value is not None]
                ratio = self.ratio(name, of)
                cells.append(f"{statistics.median(values):.3g}" if values else "-")
                cells.append("-" if ratio is None else f"{ratio:.2f}")
            scores = self.scores(name)
            cells += [f"{value:.4g}" for value in (statistics.mean(scores), min(scores), max(scores))]
            rows.append(tuple(cells))
        return rows

    def _remarks(self) -> list[str]:
        rounds = counted(len(self.runs[PLAIN]), "round")
        remarks = [f"{self.metric}: mean, lowest and highest of {rounds}. Seconds and joules: medians."]
        for name, runs in self.runs.items():
            middle = sorted(runs, key=lambda run: run.energy.joules or 0.0)[(len(runs) - 1) // 2]
            remarks.append(f"{name}: {joules_text(middle.energy)}, in {counted(len(middle.epoch), 'epoch')}.")
            remarks += [f"{name}: {setting} {state}." for setting, state in runs[0].savings.items() if name != PLAIN]
        return remarks


def compare_training(
    model: keras.Model,
    data: Any,
    trainings: Mapping[str, TrainingConfig],
    *,
    metric: str,
    validation_data: Any = None,
    rounds: int = 3,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = (),
) -> TrainingComparison:
    """Train copies of a compiled model in several ways, in turns, and tell time, energy and metric of each.

    The plain run is Keras's own ``fit`` with the epochs, batch size and shuffling of the first training. One round
    holds one run of each, so that what else the machine does falls on all of them.

    Args:
        model: A built and compiled model. It is not changed; each run begins at its weights.
        data: As for :func:`tg.fit`.
        trainings: Settings by a name of yours, other than "plain".
        metric: What is compared, such as "val_accuracy".
        validation_data: As for :func:`tg.fit`; needed for a metric that begins with ``val_``.
        rounds: Runs of each, >= 1.
        callbacks: For every run; no :class:`tg.EnergyBudget`, which counts them all together: each training has a
            ``max_kwh`` of its own.

    Raises:
        TypeError, ValueError: An argument is of another type or does not fit, or there is no such metric; before the
            first run, but where callbacks or a ``train_step`` of your own may add metrics.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x = np.ones((8, 4), "float32")
        >>> ways = {"in parts": tg.TrainingConfig(batch_size=4, accumulate=2)}
        >>> comparison = tg.compare_training(model, (x, x[:, :1]), ways, metric="loss", rounds=1)
        >>> list(comparison.runs)
        ['plain', 'in parts']
    """
    check_built_model(model)
    check_integer("rounds", rounds, minimum=1)
    check_instance("trainings", trainings, Mapping, "a dict of tg.TrainingConfig by name")
    for name, config in trainings.items():
        check_instance(f"trainings['{name}']", config, TrainingConfig, "a tg.TrainingConfig")
    if not trainings or PLAIN in trainings:
        expected = f"one training or more, with names other than '{PLAIN}'"
        raise invalid_value("trainings", expected=expected, received=list(trainings))
    check_compiled(model)
    first = next(iter(trainings.values()))
    plain = TrainingConfig(
        epochs=first.epochs, batch_size=first.batch_size, shuffle=first.shuffle, steps_per_epoch=first.steps_per_epoch,
        steps_per_execution=1, fuse_batch_norm=False,
    )  # fmt: skip
    ways = {PLAIN: plain, **trainings}
    callbacks = callback_list(callbacks)
    if any(isinstance(callback, EnergyBudget) for callback in callbacks):
        fix = "Set max_kwh or max_co2_kg in the tg.TrainingConfig of each training."
        received = "a tg.EnergyBudget, which counts all runs together"
        raise invalid_value("callbacks", expected="callbacks for each run", received=received, fix=fix)
    for config in ways.values():  # what does not fit is said before the first of them is run
        copy = compiled_copy(model)
        arguments, _ = planned(copy, data, config, callbacks, validation_data)
    names, validates = metric_names(copy, arguments), arguments["validation_data"] is not None
    if names is not None and not callbacks:
        check_metric("metric", metric, names, validates)
    runs: dict[str, list[TrainingRun]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            copy = compiled_copy(model)
            run = fit(copy, data, ways[name], callbacks=callbacks, validation_data=validation_data, verbose=0)
            if metric not in run.history:
                found = [one for one in run.history if not one.startswith("val_")]
                raise unknown_metric("metric", metric, found, validates)
            runs[name].append(run)
    return TrainingComparison({name: tuple(listed) for name, listed in runs.items()}, metric)
