"""How the figures of a report read: units, ratios against the first variant, and footnotes with the sources."""

from __future__ import annotations

from collections.abc import Sequence

from tfgreen.reports.variant import FIGURES, Variant

LABELS = {
    "accuracy": "accuracy",
    "size_bytes": "size",
    "gzip_bytes": "gzip size",
    "nonzero_bytes": "non-zero weights",
    "sparsity": "sparsity",
    "latency_ms": "latency median / p90",
    "energy": "energy per inference",
    "co2e_kg": "CO2e per inference",
}
WHAT_PRUNING_SHRINKS = (
    "Pruning shrinks the gzip size and the non-zero weights, not the size: "
    "a .tflite stores zeros like any other number."
)
MISSING = "\u2013"
SAME = 0.005  # ratios closer to 1 than this read as "same"


def shown(figure: str) -> str:
    """Return the label of a figure with the number of its footnote.

    Example:
        >>> shown("size_bytes")
        'size [2]'
    """
    return f"{LABELS[figure]} [{FIGURES.index(figure) + 1}]"


def value_text(variant: Variant, figure: str) -> str:
    """Return a figure with its unit, or a dash.

    Example:
        >>> reasons = dict.fromkeys(set(FIGURES) - {"size_bytes"}, "not asked for")
        >>> small = Variant(name="int8", size_bytes=98_200, sources={"size_bytes": "counted"}, reasons=reasons)
        >>> value_text(small, "size_bytes"), value_text(small, "accuracy")
        ('98.2 kB', '\u2013')
    """
    if getattr(variant, figure) is None:
        return MISSING
    if figure == "latency_ms" and variant.latency_ms is not None:
        return f"{_short(variant.latency_ms.median)} / {_short(variant.latency_ms.p90)} ms"
    number = _number(variant, figure)
    if figure in ("accuracy", "sparsity"):
        return f"{100 * number:.{2 if figure == 'accuracy' else 1}f} %"
    if figure.endswith("_bytes"):
        return _scaled(number, "B", {"MB": 1e6, "kB": 1e3, "B": 1.0})
    if figure == "energy":
        return _scaled(number, "nJ", {"J": 1.0, "mJ": 1e-3, "\u00b5J": 1e-6, "nJ": 1e-9})
    return _scaled(1000 * number, "ng", {"kg": 1e3, "g": 1.0, "mg": 1e-3, "\u00b5g": 1e-6, "ng": 1e-9})


def ratio_text(variant: Variant, first: Variant, figure: str) -> str:
    """Return how a figure compares with the first variant's, or an empty text."""
    if variant is first or getattr(variant, figure) is None or getattr(first, figure) is None or figure == "sparsity":
        return ""
    ours, theirs = _number(variant, figure), _number(first, figure)
    if figure == "accuracy":
        points = f"{100 * (ours - theirs):+.2f}"
        return "same" if float(points) == 0 else f"{points} points"
    less, more = ("smaller", "larger") if figure.endswith("_bytes") else ("less", "more")
    if figure == "latency_ms":
        less, more = "faster", "slower"
    if abs(ours / theirs - 1) < SAME:
        return "same"
    return f"{theirs / ours:.3g}x {less}" if ours < theirs else f"{ours / theirs:.3g}x {more}"


def footnotes(variants: Sequence[Variant]) -> list[tuple[int, str, list[tuple[str, str]]]]:
    """Return ``(number, label, [(names, text), ...])`` per figure: sources and reasons, equal ones together.

    ``names`` is empty where one text holds for all variants.
    """
    notes = []
    for number, figure in enumerate(FIGURES, 1):
        texts: dict[str, list[str]] = {}
        for variant in variants:
            missing = getattr(variant, figure) is None
            text = f"none: {variant.reasons[figure]}" if missing else variant.sources[figure]
            texts.setdefault(text, []).append(variant.name)
        together = len(texts) == 1
        notes.append((number, LABELS[figure], [("" if together else ", ".join(n), t) for t, n in texts.items()]))
    return notes


def _number(variant: Variant, figure: str) -> float:
    value = getattr(variant, figure)
    return float(getattr(value, "median", getattr(value, "joules_per_inference", value)))


def _scaled(value: float, smallest: str, units: dict[str, float]) -> str:
    unit = next((name for name, size in units.items() if value >= size), smallest)
    return f"{_short(value / units[unit])} {unit}"


def _short(value: float) -> str:
    """Three significant digits, never in exponent form where it can be avoided."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
