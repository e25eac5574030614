"""Figures as text: units, ratios, footnotes."""

from __future__ import annotations

import pytest

from tests.reports.examples import full, partial
from tfgreen.reports.figures import footnotes, number, ratio_text, unverified, used_figures, value_text
from tfgreen.reports.variant import FIGURES, EnergyPerInference, Latency, Variant


@pytest.mark.parametrize(
    ("figure", "value", "text"),
    [
        ("size_bytes", 1_234_567, "1.23 MB"),
        ("size_bytes", 999, "999 B"),
        ("accuracy", 0.0, "0.00 %"),
        ("latency_ms", Latency(0.0123, 1234.0), "0.0123 / 1234 ms"),
        ("energy", EnergyPerInference(2.5e-6, "measured"), "2.5 \u00b5J"),
        ("co2e_kg", 2.0, "2 kg"),
        ("co2e_kg", 1.4e-9, "1.4 \u00b5g"),
    ],
)
def test_units(figure, value, text):
    assert value_text(full(**{figure: value}), figure) == text


def test_ratios_are_against_the_first():
    first, second = full(), full("int8", latency_ms=Latency(6.42, 7.0), size_bytes=317_900, accuracy=0.838)
    assert ratio_text(first, first, "size_bytes") == ""
    assert ratio_text(second, first, "latency_ms") == "2x slower"
    assert ratio_text(second, first, "size_bytes") == ratio_text(second, first, "accuracy") == "same"
    assert ratio_text(partial(), first, "energy") == ""


def test_only_figures_that_a_variant_has_are_used():
    bare = Variant(name="bare", reasons=dict.fromkeys(FIGURES, "stopped"))
    assert used_figures([bare]) == [] and used_figures([bare, full()]) == list(FIGURES)
    assert used_figures([partial()]) == [f for f in FIGURES if f not in ("latency_ms", "energy", "co2e_kg")]
    assert value_text(bare, "energy") == "\u2013" and number(bare, "energy") is None
    assert number(full(), "latency_ms") == 3.21 and number(full(), "energy") == 0.0132


def test_footnotes_join_equal_texts_and_name_the_others():
    notes = {label: texts for _, label, texts in footnotes([full(), partial()])}
    assert notes["size"] == [("", "counted: bytes of the file")]
    assert [names for names, _ in notes["energy per inference"]] == ["float32", "pruned-int8"]
    assert unverified([full(), partial()]) == ["pruned-int8 is not verified: largest difference 0.2 is above 0.1"]
