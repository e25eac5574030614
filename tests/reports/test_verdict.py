"""The verdict: the budget first, or what was won and lost, and never more than the figures show."""

from __future__ import annotations

import dataclasses

from tests.reports.examples import full, measured, partial, whole_report
from tfgreen.reports.limits import Limit
from tfgreen.reports.metric import Metric
from tfgreen.reports.variant import EnergyPerInference, Latency
from tfgreen.reports.verdict import judge

SMALLER = {"gzip_bytes": 29_000, "latency_ms": Latency(1.07, 1.2), "energy": EnergyPerInference(0.0044, "estimated")}


def said(chosen, first, limits=(), metric=Metric()):
    return judge(chosen, first, metric, limits)


def test_without_a_budget_it_says_what_was_won_and_lost():
    verdict = said(full("int8", metric=0.831, **SMALLER), full())
    assert verdict.sentence == (
        "int8 is 10 times smaller gzipped, 3 times faster and needs 3 times less energy per inference (estimated) than "
        "float32; accuracy loses 0.70 points."
    )
    assert verdict.holds is None
    tiles = [(tile.value, tile.label, tile.good) for tile in verdict.tiles]
    assert tiles == [
        ("10\u00d7", "smaller gzipped", True),
        ("\u22120.70", "points of accuracy", False),
        ("3\u00d7", "faster", True),
        ("3\u00d7", "less energy per inference, estimated", True),
    ]
    assert verdict.tiles[0].detail == "290 kB \u2192 29 kB"


def test_a_difference_within_the_intervals_is_no_merit():
    verdict = said(measured("int8", metric=0.85), measured("float32"))
    assert "accuracy gains 1.20 points, within the margin of error." in verdict.sentence
    (tile,) = [tile for tile in verdict.tiles if "accuracy" in tile.label]
    assert tile.good is None and tile.detail.endswith("within the margin of error")


def test_figures_that_are_equal_or_missing_are_told():
    same = said(full("copy"), full())
    assert same.sentence == "copy has the gzip size, latency and energy per inference of float32; accuracy is the same."
    faster = said(full("fast", latency_ms=Latency(1.07, 1.2)), full()).sentence
    assert faster.startswith("fast is 3 times faster than float32, with the same gzip size and energy per inference;")
    missing = said(dataclasses.replace(partial(), metric=None, reasons={**partial().reasons, "metric": "none"}), full())
    assert "how accuracy changed is not known" in missing.sentence
    assert missing.sentence.endswith("Its file was not shown to do what its Keras model does.")
    first = full()
    alone = said(first, first)
    assert alone.sentence == (
        "float32: accuracy 83.80 %, gzip size 290 kB, latency 3.21 ms and energy per inference 13.2 mJ."
    )
    assert alone.tiles == ()


def test_a_metric_of_which_less_is_better():
    error = Metric(name="error", higher_is_better=False, share=False)
    verdict = said(full("b", metric=0.5), full(metric=0.75), metric=error)
    assert verdict.sentence.endswith("error falls by 0.25.")
    assert [(tile.value, tile.label, tile.good) for tile in verdict.tiles if tile.label == "error"] == [
        ("\u22120.25", "error", True)
    ]


def test_the_budget_decides():
    size = Limit(name="size", limit=120_000, value=100_000, unit="B")
    drop = Limit(name="accuracy drop", limit=0.5, value=0.7, unit="points")
    memory = Limit(name="memory", limit=1, value=None, unit="B", reason="not measured")
    first, chosen = full(), full("int8", metric=0.831, **SMALLER)
    worth = "10 times smaller gzipped than float32 and accuracy loses 0.70 points"
    too_much = "accuracy drop is 0.7 points, 0.2 points too much"
    cases = {
        (size,): (f"int8 keeps its limit: {worth}.", True),
        (size, size): (f"int8 keeps all 2 limits: {worth}.", True),
        (drop,): (f"int8 misses its limit: {too_much}.", False),
        (size, drop, memory): (f"int8 misses 1 of 3 limits: {too_much}; memory is unknown (not measured).", False),
        (size, memory): ("int8 keeps 1 of 2 limits; memory is unknown (not measured).", None),
        (memory,): ("memory is unknown (not measured).", None),
    }
    for limits, (sentence, holds) in cases.items():
        verdict = said(chosen, first, limits)
        assert (verdict.sentence, verdict.holds) == (sentence, holds) and len(verdict.tiles) == 4
    assert said(first, first, [size]).sentence == "float32 keeps its limit."


def test_it_goes_to_plain_values():
    data = whole_report().verdict.to_dict()
    assert data["holds"] is False and data["tiles"][0]["value"] == "9.35\u00d7"
