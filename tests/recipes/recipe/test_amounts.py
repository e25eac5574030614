"""Amounts with units."""

from __future__ import annotations

import pytest

from tfgreen.errors import InvalidTypeError, InvalidValueError
from tfgreen.recipes.recipe.amounts import amount


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("100kB", "B", 100_000), ("100 KiB", "B", 102_400), ("1.5e6 B", "B", 1.5e6), (7, "B", 7), ("7", "B", 7),
        ("5ms", "ms", 5), ("0.5 s", "ms", 500), ("250us", "ms", 0.25), ("1mJ", "J", 1e-3), ("30min", "h", 0.5),
        ("100Wh", "kWh", 0.1), ("50g", "kg", 0.05), ("1%", "share", 0.01), (".5 %", "share", 0.005),
    ],
)  # fmt: skip
def test_texts_and_numbers(value, unit, expected):
    assert amount("x", value, unit) == pytest.approx(expected, rel=1e-12)


def test_another_unit_is_refused_with_the_nearest():
    with pytest.raises(InvalidValueError, match=r"max_size: .*received '10kb'. Did you mean '10kB'\?"):
        amount("max_size", "10kb", "B")
    for text in ("5 parsecs", "much", "", "1%2", "nan ms"):
        with pytest.raises(InvalidValueError, match="max_latency: expected a number, or one with ms"):
            amount("max_latency", text, "ms")
    with pytest.raises(InvalidTypeError):
        amount("max_size", [1], "B")
    with pytest.raises(InvalidValueError):
        amount("max_size", float("inf"), "B")
