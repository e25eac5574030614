"""How candidates are drawn: spread evenly at first, then by Optuna's TPE; none twice, and none by chance of the clock.

Each draw depends on the seed and the trials before it alone, not on a sampler's state, so that a search that ends and
goes on draws what an unbroken one does, and processes that share a study draw different candidates.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from tfgreen.recipes.recipe.choices import Choice
from tfgreen.recipes.search.space import Place, Space

_BY_TPE, _ATTEMPTS = 20, 500  # draws until one is a candidate that is new: by TPE, and then at random


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """What Optuna is to draw from, by name."""
    return {name: _distribution(place) for name, place in space.places.items()}


def _distribution(place: Place) -> BaseDistribution:
    if isinstance(place.open, Choice):
        count = len(place.options)
        return IntDistribution(0, count - 1) if place.is_ordered else CategoricalDistribution(tuple(range(count)))
    low, high, log, step = place.open.low, place.open.high, place.open.log, place.open.step
    if place.open.whole:
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)


def is_taken(trial: FrozenTrial) -> bool:
    """Whether a candidate has been tried or is being tried, and not put back."""
    return trial.state in (TrialState.COMPLETE, TrialState.RUNNING) or "outcome" in trial.user_attrs


class Sampler(optuna.samplers.BaseSampler):
    """Draws candidates that no trial of the study has had yet.

    The first ``startup`` trials are spread: each setting takes values from all parts of its range in turn, in an order
    of its own (M. McKay et al., Latin hypercube sampling, 1979). With a ``random`` sampler all are drawn at random.
    """

    def __init__(self, space: Space, seed: int, startup: int = 8, random: bool = False) -> None:
        self._space, self._seed, self._startup, self._random = space, seed, startup, random
        self._distributions = distributions(space)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All settings are drawn together."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A draw that means a new candidate, or if there seems to be none, any."""
        others = [one for one in study.get_trials(deepcopy=False) if is_taken(one) and one.number != trial.number]
        known = [self._space.settings(one.params) for one in others if self._space.covers(one.params)]
        rng = np.random.default_rng((self._seed, len(others)))
        at_random = (self._at_random(rng) for _ in range(_ATTEMPTS))
        first: Iterator[dict[str, Any]] = iter(())
        if not self._random and len(others) < self._startup:
            first = iter([self._spread(len(others), rng)])
        elif not self._random:
            # Settings depend on each other: all at once found more than one by one (scripts/bench_search.py).
            tpe = optuna.samplers.TPESampler(seed=int(rng.integers(2**31)), n_startup_trials=0, multivariate=True)
            first = (tpe.sample_relative(study, trial, self._distributions) for _ in range(_BY_TPE))
        draw: dict[str, Any] = {}
        for draw in itertools.chain(first, at_random):
            if self._space.covers(draw) and self._space.settings(draw) not in known:
                break
        return draw

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A setting that a trial put in by hand leaves open."""
        return self._at_random(np.random.default_rng((self._seed, trial.number)))[param_name]

    def _at_random(self, rng: np.random.Generator) -> dict[str, Any]:
        return {name: value_at(how, rng.random()) for name, how in self._distributions.items()}

    def _spread(self, number: int, rng: np.random.Generator) -> dict[str, Any]:
        found = {}
        for column, (name, how) in enumerate(self._distributions.items()):
            order = np.random.default_rng((self._seed, 2**31 + column)).permutation(self._startup)
            found[name] = value_at(how, (order[number] + rng.random()) / self._startup)
        return found


def value_at(how: BaseDistribution, share: float) -> Any:
    """The value at a share in [0, 1) of the way through a distribution."""
    if isinstance(how, CategoricalDistribution):
        return how.choices[int(share * len(how.choices))]
    low, high = float(how.low), float(how.high)  # type: ignore[attr-defined]
    step, log = how.step, how.log  # type: ignore[attr-defined]
    if log:
        value = low * (high / low) ** share
        return round(value) if isinstance(how, IntDistribution) else float(value)
    if step is None:
        return float(low + share * (high - low))
    value = low + int(share * (round((high - low) / step) + 1)) * step
    return int(value) if isinstance(how, IntDistribution) else float(value)
