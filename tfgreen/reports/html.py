"""The report as one HTML file that needs nothing else: no script, no link, plots inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tfgreen.reports import figures, plots
from tfgreen.reports.curves import Curve
from tfgreen.reports.figures import ratio_text, value_text
from tfgreen.reports.variant import Figure, Variant
from tfgreen.version import __version__

# figure -> (title, axis with unit, factor from the stored unit)
_BARS: dict[Figure, tuple[str, str, float]] = {
    "size_bytes": ("Size of the .tflite file", "size (kB)", 1e-3),
    "accuracy": ("Accuracy", "accuracy (%)", 100.0),
    "latency_ms": ("Latency of one inference, median", "latency (ms)", 1.0),
    "energy": ("Energy of one inference", "energy (mJ)", 1e3),
}


def page(
    variants: Sequence[Variant],
    *,
    steps: Sequence[Mapping[str, object]] = (),
    environment: Mapping[str, object] | None = None,
    curves: Sequence[Curve] = (),
) -> str:
    """The page of a :class:`tfgreen.reports.report.RunReport`; every text in it is escaped."""
    import jinja2
    import markupsafe

    templates = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = templates.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    used = figures.used_figures(variants)
    return template.render(
        version=__version__,
        headings=[figures.shown(figure) for figure in used],
        rows=[(v, [(value_text(v, figure), ratio_text(v, variants[0], figure)) for figure in used]) for v in variants],
        notes=figures.footnotes(variants),
        remark=figures.WHAT_PRUNING_SHRINKS if any(variant.sparsity for variant in variants) else "",
        unverified=figures.unverified(variants),
        plots=[markupsafe.Markup(svg) for svg in _plots(variants, curves)],
        steps=[(step["name"], _text({k: v for k, v in step.items() if k != "name"})) for step in steps],
        environment=[(key, _text(value)) for key, value in (environment or {}).items()],
    )


def _plots(variants: Sequence[Variant], curves: Sequence[Curve]) -> Iterator[str]:
    for figure, (title, axis, factor) in _BARS.items():
        values = {variant.name: figures.number(variant, figure) for variant in variants}
        if any(value is not None for value in values.values()):
            scaled = {name: None if value is None else value * factor for name, value in values.items()}
            yield plots.bars(title, axis, scaled, {variant.name: _label(variant, figure) for variant in variants})
    points = {variant.name: _energy_and_accuracy(variant) for variant in variants}
    known = {name: point for name, point in points.items() if point}
    if len(known) > 1:
        yield plots.scatter("Energy of one inference against accuracy", "energy (mJ)", "accuracy (%)", known)
    for curve in curves:
        yield plots.lines(curve.title, curve.x_label, curve.y_label, curve.series, curve.bands, curve.marks)


def _energy_and_accuracy(variant: Variant) -> tuple[plots.Triple, plots.Triple] | None:
    """Millijoules with their interval, and percent, which have none."""
    if variant.energy is None or variant.accuracy is None:
        return None
    joules, percent = variant.energy.joules_per_inference, 100 * variant.accuracy
    low, high = variant.energy.interval or (joules, joules)
    return (1e3 * joules, 1e3 * low, 1e3 * high), (percent, percent, percent)


def _label(variant: Variant, figure: Figure) -> str:
    """What stands at the bar; of a latency the bar shows the median only."""
    text = value_text(variant, figure)
    return f"{text.split(' / ')[0]} ms" if " / " in text else text


def _text(value: object) -> str:
    """Write a value on one line: dictionaries as ``key: value``."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(item) if item is not None else 'none'}" for key, item in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
