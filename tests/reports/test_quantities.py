"""Amounts: three digits and the unit that suits them."""

from __future__ import annotations

import pytest

from tfgreen.reports.quantities import quantity, scaled_unit, short


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (999, "B", "999 B"),
        (2.5e9, "B", "2.5 GB"),
        (0, "B", "0 B"),
        (-18_352, "B", "-18.4 kB"),
        (0.25, "h", "15 min"),
        (0.00099, "kWh", "990 mWh"),
        (1, "points", "1 point"),
        (1.5, "points", "1.5 points"),
        (3, "", "3"),
        (1e-15, "J", "1e-06 nJ"),
    ],
)
def test_amounts(value, unit, text):
    assert quantity(value, unit) == text


def test_units_and_digits():
    assert scaled_unit(0.024, "ms") == ("\u00b5s", 1e-3) and scaled_unit(7, "frames") == ("frames", 1.0)
    assert (short(123456), short(99.94), short(0.5)) == ("123456", "99.9", "0.5")
