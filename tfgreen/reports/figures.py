"""How the figures of a report read: units, intervals, changes against the first variant, and which is best."""

from __future__ import annotations

from collections.abc import Sequence

from tfgreen.reports.metric import Metric
from tfgreen.reports.quantities import quantity
from tfgreen.reports.variant import FIGURES, Figure, Variant

_LABELS: dict[Figure, str] = {
    "size_bytes": "size",
    "gzip_bytes": "gzip size",
    "nonzero_bytes": "non-zero weights",
    "sparsity": "sparsity",
    "memory_bytes": "peak memory",
    "latency_ms": "latency",
    "energy": "energy per inference",
    "co2e_kg": "CO2e per inference",
}
_UNITS: dict[Figure, str] = {"latency_ms": "ms", "energy": "J", "co2e_kg": "kg"}
WHAT_PRUNING_SHRINKS = (
    "Pruning shrinks the gzip size, the non-zero weights, and the size of a float file where sparse weights are worth "
    "it; an int8 file stores zeros like any other number."
)
MISSING = "\u2013"
_MEASURED: dict[Figure, float] = {"latency_ms": 0.025, "memory_bytes": 0.025}  # to each side: runs differ by that
SAME = 0.005  # ratios closer to 1 than this read as "same"


def label(figure: Figure, metric: Metric) -> str:
    """What a figure is called."""
    return metric.name if figure == "metric" else _LABELS[figure]


def unit(figure: Figure) -> str:
    """The unit of an amount, as :func:`quantity` takes it."""
    return _UNITS.get(figure, "B")


def used_figures(variants: Sequence[Variant]) -> list[Figure]:
    """The figures that at least one variant has."""
    return [figure for figure in FIGURES if any(getattr(variant, figure) is not None for variant in variants)]


def value_text(variant: Variant, figure: Figure, metric: Metric) -> str:
    """A figure with its unit, or a dash."""
    value = variant.number(figure)
    return MISSING if value is None else number_text(value, figure, metric)


def number_text(value: float, figure: Figure, metric: Metric) -> str:
    """A number with the unit of its figure."""
    if figure == "metric":
        return metric.text(value)
    return f"{100 * value:.1f} %" if figure == "sparsity" else quantity(value, unit(figure))


def spread_text(variant: Variant, figure: Figure, metric: Metric) -> str:
    """The interval of a figure, or else the 90th percentile of a latency, or an empty text."""
    ends = variant.interval(figure)
    if ends is not None:
        low, high = (number_text(end, figure, metric) for end in ends)
        return f"{low.split()[0] if low.split()[1:] == high.split()[1:] else low} to {high}"
    if figure == "latency_ms" and variant.latency_ms is not None:
        return f"p90 {quantity(variant.latency_ms.p90, 'ms')}"
    return ""


def change_text(variant: Variant, first: Variant, figure: Figure, metric: Metric) -> str:
    """How a figure compares with that of the first variant, or an empty text."""
    ours, theirs = variant.number(figure), first.number(figure)
    if variant is first or ours is None or theirs is None or figure == "sparsity":
        return ""
    if figure == "metric":
        return metric.change(ours, theirs)
    if not theirs or not ours or abs(ours / theirs - 1) < SAME:
        return "same" if abs(ours - theirs) <= SAME * theirs else ""
    times = theirs / ours if ours < theirs else ours / theirs
    return f"{times:.3g}\u00d7 {words(figure)[ours > theirs]}"


def words(figure: Figure) -> tuple[str, str]:
    """What a lower and a higher amount is called."""
    if figure == "latency_ms":
        return "faster", "slower"
    return ("less", "more") if figure in ("energy", "co2e_kg", "memory_bytes") else ("smaller", "larger")


def is_better(variant: Variant, other: Variant, figure: Figure, metric: Metric) -> bool | None:
    """Whether a figure is better than another variant's; None where they are the same or one is not known."""
    ours, theirs = variant.number(figure), other.number(figure)
    if ours is None or theirs is None or change_text(variant, other, figure, metric) in ("", "same"):
        return None
    return (ours > theirs) == (figure == "metric" and metric.higher_is_better)


def differs(variant: Variant, other: Variant, figure: Figure) -> bool:
    """Whether the intervals of a figure lie apart; one that is counted has none, one that is measured a few percent."""
    (low, high), (lowest, highest) = (_ends(one, figure) for one in (variant, other))
    return low > highest or high < lowest


def best(variants: Sequence[Variant], figure: Figure, metric: Metric) -> list[str]:
    """The names of the variants that none is shown to be better than, if there is a choice; sparsity is no merit."""
    known = [variant for variant in variants if variant.number(figure) is not None]
    if figure == "sparsity" or not known:
        return []
    choose = max if figure == "metric" and metric.higher_is_better else min
    top = choose(known, key=lambda variant: variant.number(figure) or 0.0)
    found = [variant.name for variant in known if not differs(variant, top, figure)]
    return found if len(found) < len(known) else []


def unverified(variants: Sequence[Variant]) -> list[str]:
    """A sentence for each variant that was not shown to do what its Keras model does, with the reason."""
    failed = [variant for variant in variants if not variant.verified and variant.reasons.get("verified")]
    return [f"{variant.name} is not verified: {variant.reasons['verified']}" for variant in failed]


def _ends(variant: Variant, figure: Figure) -> tuple[float, float]:
    value, off = variant.number(figure) or 0.0, _MEASURED.get(figure, 0.0)
    return variant.interval(figure) or (value * (1 - off), value * (1 + off))
