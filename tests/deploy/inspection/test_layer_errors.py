from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest

from tfgreen.deploy.inspection.layer_errors import LayerComparison, LayerErrors
from tfgreen.recipes import search_precision as precision


def row(layer, noise, taken=0.0, imbalance=1.0, outliers=1.0, sources=(), fused=()):
    return LayerComparison(layer, fused, sources, "ADD", noise, noise - taken, 0.0, 0.0, 0.1, outliers, imbalance)


def test_the_layer_that_loses_most_is_not_the_last_that_makes_more_of_it():
    rows = row("a", 1e-4), row("b", 0.2, 1e-4, sources=("a",)), row("c", 0.9, 0.2, sources=("b",)), row("d", math.inf)
    errors = LayerErrors(rows, {})
    assert [layer.layer for layer in errors.ranked()][:2] == ["b", "c"] and errors.worst is rows[1]
    assert rows[1].lost_db == pytest.approx(10 * math.log10(0.2 / 1e-3)) and rows[0].lost_db == 0.0
    assert precision._groups(errors)[:3] == [("b",), ("a",), ("c",)]
    assert errors.cause_layers == ("b",) and errors.cause == (
        "'b' loses most: the noise is 20.00% of the power of its output, 0.01% of that of its input. "
        "Try keep_float=('a', 'b'), or train it: tg.quantize."
    )


@pytest.mark.parametrize(
    "before, after, named, why",
    [
        ({"noise": 1e-4, "imbalance": 90}, {"imbalance": 300}, ("pre", "a"), "output of 'pre . a', .*90 times: try"),
        ({"noise": 1e-4, "outliers": 9}, {}, ("pre", "a"), "output of 'pre . a' is 9 times.*calibration='percentile'"),
        ({"noise": 1e-4}, {"outliers": 9}, ("b",), "output of 'b' is 9 times"),
        ({"noise": 0.3, "imbalance": 90}, {"taken": 0.3}, ("pre", "a"), "'pre . a' loses most: .* is 30.00%.*Try"),
    ],
)
def test_the_cause_is_where_the_values_are_lost(before, after, named, why):
    second = {"noise": 0.3 if after.get("taken") else 0.2, "taken": 1e-4, **after}
    errors = LayerErrors((row("a", fused=("pre",), **before), row("b", sources=("a",), **second)), {})
    assert errors.cause_layers == named and re.search(why, errors.cause)


def test_no_layer_and_figures_that_are_not_finite():
    assert LayerErrors((), {"x": "why"}).cause == "No layer could be compared."
    errors = LayerErrors((row("zeros", math.inf), row("equal", 0.0)), {})
    assert errors.layers[1].sqnr_db == math.inf and errors.layers[0].lost_db == 0.0
    plain = json.loads(json.dumps(errors.to_dict(), allow_nan=False))
    assert plain["layers"][0]["noise"] is None and plain["layers"][1]["sqnr_db"] is None


def test_what_is_rounded_to_the_scale_of_a_concatenation_names_that():
    kinds = {"boxes": "ADD", "scores": "QUANTIZE", "near": "CONCATENATION", "far": "CONCATENATION", "other": "ADD"}
    noises, sources = {"scores": 0.6}, {"near": ("scores", "boxes"), "far": ("near",), "other": ("far",)}
    rows = [row(name, noises.get(name, 0.0), sources=sources.get(name, ())) for name in kinds]
    errors = LayerErrors(tuple(dataclasses.replace(one, operator=kinds[one.layer]) for one in rows), {})
    assert "gets the scale of 'far'" in errors.cause and "keep_float=('near', 'far')" in errors.cause
