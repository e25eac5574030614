"""Limit: whether it holds, and by how much."""

from __future__ import annotations

import pytest

from tfgreen.reports.limits import Limit


@pytest.mark.parametrize(
    ("limit", "holds", "margin"),
    [
        (Limit(name="size", limit=100_000, value=90_000, unit="B"), True, "10 kB to spare"),
        (Limit(name="size", limit=100_000, value=120_000, unit="B"), False, "20 kB too much"),
        (Limit(name="size", limit=100_000, value=100_000, unit="B"), True, "exactly at the limit"),
        (Limit(name="accuracy", limit=90, value=88, unit="%", at_least=True), False, "2 % too little"),
        (Limit(name="drop", limit=1, value=-0.5, unit="points"), True, "1.5 points to spare"),
        (Limit(name="memory", limit=1, value=None, unit="B", reason="not measured"), None, "unknown"),
    ],
)
def test_limits(limit, holds, margin):
    assert limit.holds is holds and limit.margin_text == margin
    assert Limit.from_dict(limit.to_dict()) == limit and limit.to_dict()["holds"] is holds


def test_bad_limits_are_refused():
    with pytest.raises(ValueError, match="limit 'size' has no value and no reason"):
        Limit(name="size", limit=1, value=None)
    with pytest.raises(ValueError, match="limit 'size'"):
        Limit(name="size", limit=float("nan"), value=1)
