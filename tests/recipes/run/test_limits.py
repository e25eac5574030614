"""Bounds of a budget beside what came out."""

from __future__ import annotations

import pytest

from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.recipe.budget import Budget
from tfgreen.recipes.run.limits import file_limits
from tfgreen.reports.variant import FIGURES, Latency, Variant


def variant(name, **figures):
    missing = {figure: "not measured" for figure in FIGURES if figure not in figures}
    return Variant(name=name, sources=dict.fromkeys(figures, "measured: here"), reasons=missing, **figures)


def test_each_bound_is_a_limit_with_its_value_or_a_reason():
    before = variant("before", metric=0.92)
    after = variant("after", metric=0.90, size_bytes=120_000, latency_ms=Latency(4.0, 5.0))
    budget = Budget(max_drop="1%", max_size="100kB", max_latency="5ms", max_joules="1mJ")
    limits = {limit.name: limit for limit in file_limits(budget, after, before, Metric("accuracy"))}
    assert limits["drop of accuracy"].value == pytest.approx(2.0) and limits["drop of accuracy"].holds is False
    assert limits["size"].holds is False and limits["latency"].holds is True
    assert limits["energy per inference"].holds is None
    assert limits["energy per inference"].reason == "not measured"


def test_a_drop_is_relative_where_the_metric_is_no_share():
    before, after = variant("before", metric=2.0), variant("after", metric=2.05)
    (limit,) = file_limits(Budget(max_drop="2%"), after, before, Metric("mae"))
    assert limit.value == pytest.approx(2.5) and limit.unit == "%" and not limit.holds
    (unknown,) = file_limits(Budget(max_drop="2%"), after, variant("before", metric=0.0), Metric("mae"))
    assert unknown.holds is None
    (without,) = file_limits(Budget(max_drop="2%"), after, before, None)
    assert without.holds is None and "no targets" in without.reason
