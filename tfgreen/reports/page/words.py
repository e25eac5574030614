"""Plain values in words: what a step was told to do, without the names and brackets of a program."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tfgreen.reports.quantities import quantity

_SMALL = 10_000  # integers from here on get separators


def in_words(value: object) -> str:
    """A value on one line; what says nothing (None, an empty list or dictionary) is left out.

    Example:
        >>> in_words({"class_name": "PolynomialDecay", "config": {"final_sparsity": 0.8, "power": 3, "seed": None}})
        'polynomial decay: final sparsity 0.8, power 3'
    """
    if isinstance(value, Mapping):
        if set(value) == {"class_name", "config"}:
            return ": ".join(filter(None, (name_in_words(str(value["class_name"])), in_words(value["config"]))))
        return ", ".join(f"{name_in_words(str(key))} {text}" for key, item in value.items() if (text := in_words(item)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= _SMALL else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(filter(None, map(in_words, value)))
    return "" if value is None else str(value)


def name_in_words(name: str) -> str:
    """A key or the name of a class as words.

    Example:
        >>> name_in_words("learning_rate"), name_in_words("PolynomialDecay"), name_in_words("CPU")
        ('learning rate', 'polynomial decay', 'CPU')
    """
    if not name.isidentifier():
        return name
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return split.lower() if split != name else split.replace("_", " ")


def step_in_words(step: Mapping[str, object]) -> tuple[str, list[str]]:
    """What a step did in a line, and its notes as sentences.

    Example:
        >>> step_in_words({"name": "train", "settings": {"epochs": 3}, "seconds": 75, "joules": 1200, "note": "ok"})
        ('epochs 3; 1.25 min, 1.2 kJ', ['Ok.'])
    """
    apart = ("name", "note", "notes", "settings", "seconds", "joules")
    rest = {key: value for key, value in step.items() if key not in apart}
    notes = [text for key in ("note", "notes") for text in _texts(step.get(key))]
    seconds, joules = step.get("seconds"), step.get("joules")
    cost = [quantity(float(seconds) / 3600, "h")] if isinstance(seconds, (int, float)) and seconds >= 0.05 else []
    cost += [quantity(float(joules), "J")] if isinstance(joules, (int, float)) else []
    settings = ", ".join(filter(None, (in_words(step.get("settings")), in_words(rest))))
    return "; ".join(filter(None, (settings, ", ".join(cost)))), notes


def _texts(value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    return [_sentence(str(text)) for text in texts if text]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
