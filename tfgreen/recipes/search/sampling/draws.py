"""Draws from a space: at random, spread evenly, and as coordinates in which candidates that are alike are near."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tfgreen.recipes.recipe.choices import Choice
from tfgreen.recipes.search.space import Place, Space


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """What Optuna is to keep of a draw, by name."""
    return {name: _distribution(place) for name, place in space.places.items()}


def random_draw(space: Space, rng: np.random.Generator) -> dict[str, Any]:
    """A draw in which each setting is equally likely to be anywhere on its range."""
    return {name: value_at(how, rng.random()) for name, how in distributions(space).items()}


def spread_draw(space: Space, seed: int, number: int, count: int) -> dict[str, Any]:
    """Draw ``number`` of ``count`` that are spread: each setting takes values from all parts of its range in turn.

    It is in an order of its own: M. McKay et al., Latin hypercube sampling, 1979.
    """
    found, rng = {}, np.random.default_rng((seed, number))
    for column, (name, how) in enumerate(distributions(space).items()):
        order = np.random.default_rng((seed, 2**31 + column)).permutation(count)
        found[name] = value_at(how, (order[number] + rng.random()) / count)
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


def coordinates(space: Space, draw: Mapping[str, Any]) -> list[float]:
    """A draw as a point: numbers as shares of their range, names one by one; what it does not need is in the middle."""
    point, chosen = [], space.chosen(draw)
    for name, how in distributions(space).items():
        if isinstance(how, CategoricalDistribution):
            point += [float(name in chosen and draw[name] == choice) for choice in how.choices]
        else:
            point.append(_share(how, draw[name]) if name in chosen else 0.5)
    return point


def _share(how: BaseDistribution, value: float) -> float:
    low, high = float(how.low), float(how.high)  # type: ignore[attr-defined]
    if how.log:  # type: ignore[attr-defined]
        low, high, value = np.log([low, high, value])
    return float((value - low) / ((high - low) or 1.0))


def _distribution(place: Place) -> BaseDistribution:
    if isinstance(place.open, Choice):
        count = len(place.options)
        return IntDistribution(0, count - 1) if place.is_ordered else CategoricalDistribution(tuple(range(count)))
    low, high, log, step = place.open.low, place.open.high, place.open.log, place.open.step
    if place.open.whole:
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(low, high, log=log, step=step)
