from __future__ import annotations

import pytest

from tfgreen.energy.laps import EnergyLaps


def test_each_lap_is_what_was_used_since_the_last_and_a_new_start_forgets_the_rest(rapl):
    counters, laps = rapl(), EnergyLaps("DEU")
    laps.stop()
    laps.start()
    for joules in (3.0, 5.0):
        counters.burn(joules, 0.0)
        assert laps.lap().joules == pytest.approx(joules)
    counters.burn(7.0, 0.0)
    laps.start()
    counters.burn(1.0, 0.0)
    reading = laps.lap()
    assert reading.joules == pytest.approx(1.0) and reading.region == "DEU"
    laps.stop()
    laps.stop()


def test_an_unknown_region_is_named():
    with pytest.raises(ValueError, match="Atlantis"):
        EnergyLaps("Atlantis")
