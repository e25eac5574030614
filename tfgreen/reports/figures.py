"""How the figures of a report read: units, ratios against the first variant, and footnotes with the sources."""

from __future__ import annotations

from collections.abc import Sequence

from tfgreen.reports.variant import FIGURES, Figure, Variant

LABELS: dict[Figure, str] = {
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
    "Pruning shrinks the gzip size, the non-zero weights, and the size of a float file where sparse weights are worth "
    "it; an int8 file stores zeros like any other number."
)
MISSING = "\u2013"
SAME = 0.005  # ratios closer to 1 than this read as "same"


def used_figures(variants: Sequence[Variant]) -> list[Figure]:
    """The figures that at least one variant has."""
    return [figure for figure in FIGURES if any(getattr(variant, figure) is not None for variant in variants)]


def number(variant: Variant, figure: Figure) -> float | None:
    """The one number that a figure is compared by: the median of a latency, the joules of an energy."""
    value = getattr(variant, figure)
    value = getattr(value, "median", getattr(value, "joules_per_inference", value))
    return None if value is None else float(value)


def shown(figure: Figure) -> str:
    """The label of a figure with the number of its footnote."""
    return f"{LABELS[figure]} [{FIGURES.index(figure) + 1}]"


def value_text(variant: Variant, figure: Figure) -> str:
    """A figure with its unit, or a dash."""
    value = number(variant, figure)
    if value is None:
        return MISSING
    if figure == "latency_ms" and variant.latency_ms is not None:
        return f"{_short(variant.latency_ms.median)} / {_short(variant.latency_ms.p90)} ms"
    if figure in ("accuracy", "sparsity"):
        return f"{100 * value:.{2 if figure == 'accuracy' else 1}f} %"
    if figure.endswith("_bytes"):
        return _scaled(value, "B", {"MB": 1e6, "kB": 1e3, "B": 1.0})
    if figure == "energy":
        return _scaled(value, "nJ", {"J": 1.0, "mJ": 1e-3, "\u00b5J": 1e-6, "nJ": 1e-9})
    return _scaled(1000 * value, "ng", {"kg": 1e3, "g": 1.0, "mg": 1e-3, "\u00b5g": 1e-6, "ng": 1e-9})


def ratio_text(variant: Variant, first: Variant, figure: Figure) -> str:
    """How a figure compares with that of the first variant, or an empty text."""
    ours, theirs = number(variant, figure), number(first, figure)
    if variant is first or ours is None or theirs is None or figure == "sparsity":
        return ""
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
    """``(number, label, [(names, text), ...])`` per figure: each source or reason with the variants that share it.

    ``names`` is empty where one text holds for all variants.
    """
    notes = []
    for place, figure in enumerate(FIGURES, 1):
        texts: dict[str, list[str]] = {}
        for variant in variants:
            missing = getattr(variant, figure) is None
            text = f"none: {variant.reasons[figure]}" if missing else variant.sources[figure]
            texts.setdefault(text, []).append(variant.name)
        named = [("" if len(texts) == 1 else ", ".join(names), text) for text, names in texts.items()]
        notes.append((place, LABELS[figure], named))
    return notes


def unverified(variants: Sequence[Variant]) -> list[str]:
    """A sentence for each variant that was not shown to do what its Keras model does, with the reason."""
    failed = [variant for variant in variants if not variant.verified and variant.reasons.get("verified")]
    return [f"{variant.name} is not verified: {variant.reasons['verified']}" for variant in failed]


def _scaled(value: float, smallest: str, units: dict[str, float]) -> str:
    unit = next((name for name, size in units.items() if value >= size), smallest)
    return f"{_short(value / units[unit])} {unit}"


def _short(value: float) -> str:
    """Three significant digits, never in exponent form where it can be avoided."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
