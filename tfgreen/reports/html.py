"""The report as one HTML file that needs nothing else: no script, no link, plots inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfgreen.reports import plots
from tfgreen.reports.figures import WHAT_PRUNING_SHRINKS, footnotes, ratio_text, shown, value_text
from tfgreen.reports.variant import FIGURES, Variant
from tfgreen.version import __version__

if TYPE_CHECKING:
    from tfgreen.reports.report import RunReport

# figure -> (title, axis with unit, factor from the stored unit)
_BARS = {
    "size_bytes": ("Size of the .tflite file", "size (kB)", 1e-3),
    "accuracy": ("Accuracy", "accuracy (%)", 100.0),
    "latency_ms": ("Latency of one inference, median", "latency (ms)", 1.0),
    "energy": ("Energy of one inference", "energy (mJ)", 1e3),
}


def page(report: RunReport) -> str:
    """Return the page; every text from the report is escaped."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    used = [figure for figure in FIGURES if any(getattr(v, figure) is not None for v in report.variants)]
    first = report.variants[0]
    return template.render(
        version=__version__,
        headings=[shown(figure) for figure in used],
        rows=[
            (variant, [(value_text(variant, f), ratio_text(variant, first, f)) for f in used])
            for variant in report.variants
        ],
        notes=footnotes(report.variants),
        remark=WHAT_PRUNING_SHRINKS if any(variant.sparsity for variant in report.variants) else "",
        unverified=[v for v in report.variants if not v.verified and v.reasons.get("verified")],
        plots=[markupsafe.Markup(svg) for svg in _plots(report)],
        steps=[(step["name"], _text({k: v for k, v in step.items() if k != "name"})) for step in report.steps],
        environment=[(key, _text(value)) for key, value in report.environment.items()],
    )


def _plots(report: RunReport) -> list[str]:
    drawn = []
    for figure, (title, axis, factor) in _BARS.items():
        values = {v.name: _value(v, figure, factor) for v in report.variants}
        if any(value is not None for value in values.values()):
            labels = {v.name: _label(v, figure) for v in report.variants}
            drawn.append(plots.bars(title, axis, values, labels))
    drawn += [plots.comparison(c.title, c.axis, c.values, c.reference) for c in report.comparisons]
    return drawn + [plots.lines(c.title, c.x_label, c.y_label, c.series) for c in report.curves]


def _label(variant: Variant, figure: str) -> str:
    """What stands at the bar; of a latency the bar shows the median only."""
    text = value_text(variant, figure)
    return f"{text.split(' / ')[0]} ms" if " / " in text else text


def _value(variant: Variant, figure: str, factor: float) -> float | None:
    value: Any = getattr(variant, figure)
    value = getattr(value, "median", getattr(value, "joules_per_inference", value))
    return None if value is None else float(value) * factor


def _text(value: Any) -> str:
    """Write a value on one line: dictionaries as ``key: value``."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(item) if item is not None else 'none'}" for key, item in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
