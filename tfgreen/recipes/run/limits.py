"""What came of a budget: a limit of the report for each bound."""

from __future__ import annotations

from tfgreen.recipes.metrics.metric import Metric
from tfgreen.recipes.recipe.budget import Budget
from tfgreen.reports.limits import Limit
from tfgreen.reports.variant import Figure, Variant

# Bound -> figure of a variant, its name and its unit in a report.
_FIGURES: dict[str, tuple[Figure, str, str]] = {
    "max_size": ("size_bytes", "size", "B"),
    "max_gzip": ("gzip_bytes", "gzip size", "B"),
    "max_latency": ("latency_ms", "latency", "ms"),
    "max_memory": ("memory_bytes", "peak memory", "B"),
    "max_joules": ("energy", "energy per inference", "J"),
}


def file_limits(budget: Budget, variant: Variant, first: Variant, metric: Metric | None) -> list[Limit]:
    """The bounds of a file: of ``variant``, compared with ``first`` where the metric is concerned."""
    limits = []
    if budget.max_drop is not None:
        limits.append(_drop(float(budget.max_drop), variant, first, metric))
    for bound, (figure, name, unit) in _FIGURES.items():
        most = getattr(budget, bound)
        if most is not None:
            value, reason = variant.number(figure), variant.reasons.get(figure, "")
            limits.append(Limit(name=name, limit=most, value=value, unit=unit, reason="" if value else reason))
    return limits


def _drop(most: float, variant: Variant, first: Variant, metric: Metric | None) -> Limit:
    """Points of a share; of another metric the share of what it was."""
    if metric is None or variant.metric is None or first.metric is None:
        return Limit(name="drop", limit=100 * most, value=None, unit="points", reason="the data has no targets")
    drop = metric.drop(first.metric, variant.metric)
    name = f"drop of {metric.name}"
    if metric.is_share:
        return Limit(name=name, limit=100 * most, value=100 * drop, unit="points")
    if not first.metric:
        return Limit(name=name, limit=100 * most, value=None, unit="%", reason=f"{metric.name} was 0 before")
    return Limit(name=name, limit=100 * most, value=100 * drop / abs(first.metric), unit="%")
