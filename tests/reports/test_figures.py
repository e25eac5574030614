"""Figures as text: units, intervals, changes, and which is best."""

from __future__ import annotations

import pytest

from tests.reports.examples import full, measured, partial
from tfgreen.reports import figures
from tfgreen.reports.metric import Metric
from tfgreen.reports.variant import FIGURES, EnergyPerInference, Latency, Variant

ACCURACY = Metric()
ERROR = Metric(name="mean absolute error", higher_is_better=False, share=False)


@pytest.mark.parametrize(
    ("figure", "value", "text"),
    [
        ("size_bytes", 1_234_567, "1.23 MB"),
        ("size_bytes", 999, "999 B"),
        ("memory_bytes", 420_000, "420 kB"),
        ("metric", 0.0, "0.00 %"),
        ("latency_ms", Latency(0.0123, 1234.0), "12.3 \u00b5s"),
        ("energy", EnergyPerInference(2.5e-6, "measured"), "2.5 \u00b5J"),
        ("co2e_kg", 2.0, "2 kg"),
        ("co2e_kg", 1.4e-9, "1.4 \u00b5g"),
    ],
)
def test_units(figure, value, text):
    assert figures.value_text(full(**{figure: value}), figure, ACCURACY) == text


def test_changes_are_against_the_first():
    first, second = full(), full("int8", latency_ms=Latency(6.42, 7.0), size_bytes=317_900, metric=0.838)

    def change(variant, figure, metric=ACCURACY):
        return figures.change_text(variant, first, figure, metric)

    assert change(first, "size_bytes") == "" and change(partial(), "energy") == ""
    assert change(second, "latency_ms") == "2\u00d7 slower" and change(partial(), "gzip_bytes") == "9.35\u00d7 smaller"
    assert change(second, "size_bytes") == change(second, "metric") == "same"
    assert change(full("b", metric=0.5), "metric") == "-33.80 points"
    assert change(full("b", metric=0.5), "metric", ERROR) == "-0.338"
    assert change(full("b", nonzero_bytes=0), "nonzero_bytes") == ""  # no number of times


def test_what_is_better_depends_on_the_figure_and_the_metric():
    first, second = full(), full("b", metric=0.9, size_bytes=400_000)
    assert figures.is_better(second, first, "metric", ACCURACY) is True
    assert figures.is_better(second, first, "metric", ERROR) is False
    assert figures.is_better(second, first, "size_bytes", ACCURACY) is False
    assert figures.is_better(second, first, "gzip_bytes", ACCURACY) is None
    names = {metric: figures.best([first, second], "metric", metric) for metric in (ACCURACY, ERROR)}
    assert names == {ACCURACY: ["b"], ERROR: ["float32"]}
    assert figures.best([first, second], "gzip_bytes", ACCURACY) == []
    assert figures.best([first, partial()], "sparsity", ACCURACY) == []


def test_intervals_tell_whether_figures_differ():
    first, near = measured("a"), measured("b", metric=0.85)
    assert not figures.differs(first, near, "metric") and figures.differs(first, full("c", metric=0.95), "metric")
    assert figures.differs(full("a"), full("b", size_bytes=5), "size_bytes")
    assert figures.spread_text(first, "metric", ACCURACY) == "80.00 to 87.00 %"
    assert figures.spread_text(first, "energy", ACCURACY) == "12 to 14 mJ"
    assert figures.spread_text(full("a"), "latency_ms", ACCURACY) == "p90 3.9 ms"
    assert figures.spread_text(full("a"), "size_bytes", ACCURACY) == ""


def test_none_is_best_where_none_is_shown_to_be_better():
    first, near, far = measured("a"), measured("b", metric=0.85), full("c", metric=0.95)
    assert figures.best([first, near], "metric", ACCURACY) == []
    assert figures.best([first, near, far], "metric", ACCURACY) == ["c"]
    times = [full(name, latency_ms=Latency(ms, ms)) for name, ms in (("a", 1.57), ("b", 1.59), ("c", 2.0))]
    assert figures.best(times, "latency_ms", ACCURACY) == ["a", "b"]


def test_only_figures_that_a_variant_has_are_used():
    bare = Variant(name="bare", reasons=dict.fromkeys(FIGURES, "stopped"))
    assert figures.used_figures([bare]) == [] and figures.used_figures([bare, full()]) == list(FIGURES)
    assert figures.used_figures([partial()]) == list(FIGURES[:5])
    assert figures.value_text(bare, "energy", ACCURACY) == figures.MISSING and bare.number("energy") is None
    assert full().number("latency_ms") == 3.21 and full().number("energy") == 0.0132


def test_who_is_not_verified_is_told():
    told = ["pruned-int8 is not verified: largest difference 0.2 is above 0.1"]
    assert figures.unverified([full(), partial()]) == told
