"""Plain values in words: nothing empty, no class names, no brackets."""

from __future__ import annotations

import pytest

from tfgreen.reports.page.words import in_words, name_in_words, step_in_words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        (True, "yes"),
        (0.123456, "0.1235"),
        (12_000, "12,000"),
        (1437, "1437"),
        ([1, 2], "1, 2"),
        ({"a_b": {"c": []}, "d": {"e": 1}}, "d e 1"),
        ({"class_name": "ConstantSparsity", "config": {}}, "constant sparsity"),
    ],
)
def test_values(value, words):
    assert in_words(value) == words


def test_names():
    assert [name_in_words(name) for name in ("co2e_kg", "CosineDecay", "ai-edge-litert")] == [
        "co2e kg", "cosine decay", "ai-edge-litert"
    ]  # fmt: skip


def test_the_notes_of_a_step_are_sentences_of_their_own():
    step = {"name": "convert", "notes": ["two words", "", "Whole."], "note": "one", "epochs": 3, "seed": None}
    assert step_in_words(step) == ("epochs 3", ["One.", "Two words.", "Whole."])
    assert step_in_words({"name": "convert", "notes": []}) == ("", [])
