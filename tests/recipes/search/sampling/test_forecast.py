"""What candidates are forecast to come to, on formulas in which that is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.recipes.search.problems import figures, problem
from tfgreen.recipes.search.candidate import Candidate
from tfgreen.recipes.search.problem import Stage
from tfgreen.recipes.search.sampling.draws import random_draw
from tfgreen.recipes.search.sampling.forecast import Forecast


def candidates(of, count, stages, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        draw = random_draw(of.space, rng)
        settings = of.space.settings(draw)
        kept = tuple(Stage(figures(settings, stage), 0.0, 1.0) for stage in range(stages))
        found.append(Candidate(number, settings, "dropped", "", kept, {}, draw))
    return found


def last(of, found):
    return np.array([of.costs(figures(of.space.settings(one.draw), of.stages - 1)) for one in found])


def test_new_draws_are_forecast_from_settings_alone():
    of = problem()
    forecast = Forecast(of, candidates(of, 15, 3))
    new = candidates(of, 50, 0, seed=1)
    means, deviations = forecast.of([one.draw for one in new], [])
    error = np.abs(forecast.costs(means) - last(of, new))
    assert means.shape == (50, 2) and np.median(error[:, 0]) < 0.03 and np.median(error[:, 1]) < 15
    assert np.all(deviations > 0)


def test_what_was_measured_is_forecast_better_the_further_it_came():
    of = problem()
    forecast = Forecast(of, [*candidates(of, 12, 3), *candidates(of, 5, 2, seed=2)])
    errors, spreads = [], []
    for stages in (0, 1, 2, 3):
        new = candidates(of, 40, stages, seed=3)
        means, deviations = forecast.of([one.draw for one in new], []) if not stages else forecast.of([], new)
        errors.append(np.abs(forecast.costs(means) - last(of, new))[:, 0].mean())
        spreads.append(deviations[:, 0].mean())
    assert errors[3] < 1e-12 and errors[2] < errors[0] and errors[1] < errors[0]
    assert spreads[3] == 0 and spreads[2] < spreads[0]


@pytest.mark.parametrize("stages", [1, 2])
def test_stages_that_none_has_reached_are_uncertain(stages):
    of = problem()
    known = candidates(of, 6, stages)
    means, deviations = Forecast(of, known).of([], known)
    assert np.all(np.isfinite(means)) and np.all(deviations > 0)


def test_positive_costs_are_forecast_by_their_logarithms_and_others_as_they_are():
    of = problem()
    forecast = Forecast(of, candidates(of, 10, 3))
    new = candidates(of, 30, 0, seed=5)
    means, deviations = forecast.of([one.draw for one in new], [])
    assert np.all(forecast.costs(means - 9 * deviations)[:, 1] > 0)
    assert np.allclose(forecast.costs(means)[:, 0], means[:, 0])
