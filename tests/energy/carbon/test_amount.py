"""amount: what an energy is read from, in joules, and the sum of several."""

from __future__ import annotations

import math

import pytest

from tfgreen.energy.carbon.amount import ONE, WHOLE, EnergyAmount, read_amount, total
from tfgreen.energy.prediction import EnergyPrediction


def test_joules_and_kilowatt_hours_are_read_with_their_interval_and_source():
    assert read_amount("cost", 5, WHOLE) == EnergyAmount(5.0, None, "given by the caller")
    own = EnergyAmount(0.01, (0.009, 0.011), "own")
    assert read_amount("before", own, ONE) == read_amount("cost", own, WHOLE) == own
    prediction = EnergyPrediction(0.001, (0.0005, 0.002), None, 60.0, epochs=10, after=1)
    assert read_amount("cost", prediction, WHOLE).bounds == pytest.approx((1800, 7200))
    with pytest.raises(TypeError, match="before: expected joules, a tg.EnergyAmount, or what has joules_per_inference"):
        read_amount("before", prediction, ONE)  # a whole run is no inference


@pytest.mark.parametrize(
    ("joules", "interval"), [(2.0, (3.0, 1.0)), (2.0, (0.1, 1.0)), (2.0, (-1.0, 3.0)), (-2.0, None), (math.nan, None)]
)
def test_joules_lie_within_their_interval(joules, interval):
    with pytest.raises(ValueError, match="EnergyAmount, "):
        EnergyAmount(joules, interval, "own")


def test_the_sum_takes_a_figure_without_an_interval_as_exact():
    parts = [EnergyAmount(5.0, None, "a"), EnergyAmount(3.0, (1.0, 4.0), "b"), EnergyAmount(1.0, None, "a")]
    assert total(parts) == EnergyAmount(9.0, (7.0, 10.0), "a, b")
    with pytest.raises(ValueError, match="cost: expected one energy or more"):
        total([])
