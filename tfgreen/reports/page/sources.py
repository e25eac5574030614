"""Where the figures of a report come from: what variants share is said once, what differs has a row of its own."""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Mapping, Sequence

from tfgreen.reports.figures import label
from tfgreen.reports.metric import Metric
from tfgreen.reports.variant import FIGURES, Figure, Variant


@dataclasses.dataclass(frozen=True)
class Source:
    """The footnote of a figure: a text that holds for all variants, and ``(names, text)`` rows for what differs."""

    number: int
    label: str
    text: str
    rows: tuple[tuple[str, str], ...] = ()


def number_of(figure: Figure) -> int:
    """The number of the footnote of a figure."""
    return FIGURES.index(figure) + 1


def sources(variants: Sequence[Variant], metric: Metric) -> list[Source]:
    """The footnote of each figure, in the order of the figures."""
    found = []
    for figure in FIGURES:
        texts: dict[str, list[str]] = {}
        for variant in variants:
            missing = getattr(variant, figure) is None
            text = f"none: {variant.reasons[figure]}" if missing else variant.sources[figure]
            texts.setdefault(text, []).append(variant.name)
        named = {", ".join(names): text for text, names in texts.items()}
        found.append(Source(number_of(figure), label(figure, metric), *shared(named)))
    return found


def shared(texts: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """One text for those that differ only in numbers, with a letter for each number; or all of them as rows.

    Example:
        >>> shared({"a": "estimated: 5 runs at 4 W", "b": "estimated: 7 runs at 4 W"})
        ('estimated: [a] runs at 4 W', (('a', '[a] 5'), ('b', '[a] 7')))
        >>> shared({"a": "measured", "b": "none: no sensor"})
        ('', (('a', 'measured'), ('b', 'none: no sensor')))
    """
    if len(texts) == 1:
        return next(iter(texts.values())), ()
    tokens = [re.split(r"(\d[\d.,]*\d|\d)", text) for text in texts.values()]
    if len({tuple(row[::2]) for row in tokens}) > 1:
        return "", tuple(texts.items())
    differing = [place for place, column in enumerate(zip(*tokens)) if len(set(column)) > 1]
    if len(differing) > len(string.ascii_lowercase):
        return "", tuple(texts.items())
    marks = {place: f"[{letter}]" for place, letter in zip(differing, string.ascii_lowercase)}
    text = "".join(marks.get(place, token) for place, token in enumerate(tokens[0]))
    values = (", ".join(f"{mark} {row[place]}" for place, mark in marks.items()) for row in tokens)
    return text, tuple(zip(texts, values))
