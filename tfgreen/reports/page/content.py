"""What the document of a run says, section by section."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tfgreen.reports import figures
from tfgreen.reports.curves import Curve
from tfgreen.reports.page import plots
from tfgreen.reports.page.document import Block, Cell, Code, Document, Items, Notes, Plots, Section, Table, Text
from tfgreen.reports.page.sources import number_of, sources
from tfgreen.reports.page.words import in_words, name_in_words, step_in_words
from tfgreen.reports.quantities import quantity, scaled_unit, short
from tfgreen.version import __version__

if TYPE_CHECKING:
    from tfgreen.reports.layer_row import LayerRow
    from tfgreen.reports.limits import Limit
    from tfgreen.reports.metric import Metric
    from tfgreen.reports.report import RunReport
    from tfgreen.reports.variant import Figure, Variant

FEW = 4  # variants that stand side by side; more of them are rows
_LONG = 12  # rows from which on a table of layers is folded
_AGAINST: tuple[Figure, ...] = ("gzip_bytes", "latency_ms", "energy")  # what the metric is drawn against


def document(report: RunReport) -> Document:
    """The document of a run."""
    variants, metric = report.variants, report.metric
    sections = [
        Section("Budget", [_limits(report.limits)] if report.limits else []),
        Section("Before and after", variants_blocks(variants, metric, report.chosen_variant.name)),
        Section(f"{capital(metric.name)} against cost", list(cost_plots(variants, metric, report.chosen_variant.name))),
        Section("Layers", [_layers(report.layers)] if report.layers else [], folded=len(report.layers) > _LONG),
        Section("Training", [_curves(report.curves)] if report.curves else []),
        Section("What was done", [_steps(report)] if report.steps else []),
        Section("What was skipped, and why", [_items(report.skipped)] if report.skipped else []),
        Section("Break-even", list(_break_even(report))),
        Section("How to reproduce it", list(_reproduce(report))),
        Section("Environment", [environment_items(report.environment)] if report.environment else []),
        Section("Sources of the figures", [source_notes(variants, metric)], folded=True),
    ]
    footer = f"Written by tfgreen {__version__}. The same is in report.json and report.md."
    return Document(report.title, report.verdict, [section for section in sections if section.blocks], footer)


def capital(text: str) -> str:
    """A text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def variants_blocks(variants: Sequence[Variant], metric: Metric, chosen: str = "") -> list[Block]:
    """The table of the variants, and what has to be said about it."""
    blocks: list[Block] = [_variants(variants, metric, chosen)]
    if any(variant.sparsity for variant in variants):
        blocks.append(Text(figures.WHAT_PRUNING_SHRINKS))
    return blocks + [Text(sentence) for sentence in figures.unverified(variants)]


def cost_plots(variants: Sequence[Variant], metric: Metric, chosen: str = "") -> Iterator[Block]:
    """The metric against size, latency and energy, of two variants or more that have both; one is ringed if several."""
    factor, name = (100, f"{metric.name} (%)") if metric.share else (1, metric.name)
    drawn, names = [], list[str]()
    for figure in _AGAINST:
        known = [v for v in variants if v.metric is not None and v.number(figure) is not None]
        if len(known) > 1:
            unit, size = scaled_unit(max(v.number(figure) or 0.0 for v in known), figures.unit(figure))
            points = {v.name: (_triple(v, figure, 1 / size), _triple(v, "metric", factor)) for v in known}
            title = capital(figures.label(figure, metric))
            most = 100 if metric.share else math.inf
            ring = chosen if len(known) > 2 else ""
            label = f"{title.lower()} ({unit})"
            drawn.append(plots.scatter(title, label, name, points, most, metric.higher_is_better, ring))
            names = names or [v.name for v in known]
    if drawn:
        zero = f"Sizes, times and energies begin at 0; {metric.name} does not, as its differences are small."
        whiskers = "Whiskers are intervals, where one is known."
        front = " The dotted line joins those that no other beats in both" if len(names) > 2 else ""
        front += ("; the ringed one is chosen." if chosen else ".") if front else ""
        yield Plots([*drawn, plots.point_legend(names)], (), f"{zero} {whiskers}{front}")


def environment_items(environment: dict[str, object]) -> Block:
    """On what a run was made."""
    words = {name_in_words(key): in_words(value) for key, value in environment.items()}
    return _items({key: text for key, text in words.items() if text})


def source_notes(variants: Sequence[Variant], metric: Metric) -> Block:
    """The footnotes."""
    return Notes(sources(variants, metric))


def _variants(variants: Sequence[Variant], metric: Metric, chosen: str) -> Table:
    used = figures.used_figures(variants)
    heads = [Cell(figures.label(figure, metric), note=number_of(figure)) for figure in used]
    columns = [_column(variants, figure, metric) for figure in used]
    heads.append(Cell("verified"))
    columns.append([Cell("yes" if v.verified else "no", good=None if v.verified else False) for v in variants])
    told = [variant.name == chosen and len(variants) > 2 for variant in variants]
    names = [Cell(v.name, ["chosen"] if is_told else [], good=is_told or None) for v, is_told in zip(variants, told)]
    if len(variants) > FEW:
        return Table([Cell(""), *heads], [[name, *row] for name, row in zip(names, zip(*columns))])
    return Table([Cell(""), *names], [[head, *row] for head, row in zip(heads, columns)])


def _column(variants: Sequence[Variant], figure: Figure, metric: Metric) -> list[Cell]:
    """The cells of a figure."""
    values = [variant.number(figure) for variant in variants]
    longest = max((value for value in values if value is not None), default=0.0)
    top = figures.best(variants, figure, metric)
    cells = []
    for variant, value in zip(variants, values):
        change = figures.change_text(variant, variants[0], figure, metric)
        small = [text for text in (change, figures.spread_text(variant, figure, metric)) if text]
        bar = None if figure in ("metric", "sparsity") or value is None or not longest else value / longest
        good = figures.is_better(variant, variants[0], figure, metric)
        if not figures.differs(variant, variants[0], figure):
            good = None
        best = variant.name in top
        cells.append(Cell(figures.value_text(variant, figure, metric), small, bar, good=good, best=best))
    return cells


def _triple(variant: Variant, figure: Figure, scale: float) -> plots.Triple:
    value = variant.number(figure) or 0.0
    low, high = variant.interval(figure) or (value, value)
    return value * scale, low * scale, high * scale


def _limits(limits: Sequence[Limit]) -> Table:
    told = {True: "holds", False: "missed", None: "unknown"}
    rows = []
    for limit in limits:
        is_bar = limit.value is not None and not limit.at_least and limit.limit > 0
        bar = min(1.0, max(0.0, (limit.value or 0.0) / limit.limit)) if is_bar else None
        value = Cell(limit.value_text, bar=bar, good=False if limit.holds is False else None)
        margin = [] if limit.value is None else [limit.margin_text]
        verdict = Cell(told[limit.holds], margin, good=limit.holds)
        rows.append([Cell(limit.name), Cell(limit.limit_text), value, verdict])
    return Table([Cell(""), Cell("limit"), Cell("came out"), Cell("verdict")], rows)


def _layers(rows: Sequence[LayerRow]) -> Table:
    columns = {
        "MACs": [_changed(row.macs_before, row.macs) for row in rows],
        "channels": [_changed(row.channels_before, row.channels) for row in rows],
        "sparsity": [_known(row.sparsity, "{:.1%}") for row in rows],
        "clusters": [_known(row.clusters, "{}") for row in rows],
        "bits": [_known(row.bits, "{}") for row in rows],
        "signal over error": [_known(row.sqnr_db, "{:.0f} dB") for row in rows],
        "left as it was": [row.reason for row in rows],
    }
    used = {head: cells for head, cells in columns.items() if any(cells)}
    cells = [[Cell(text or figures.MISSING) for text in column] for column in used.values()]
    table = [[Cell(row.path), *line] for row, *line in zip(rows, *cells)]
    return Table([Cell("layer"), *map(Cell, used)], table)


def _changed(before: int | None, after: int | None) -> str:
    if after is None:
        return ""
    return _many(after) if before in (None, after) else f"{_many(before)} \u2192 {_many(after)}"


def _many(count: int | None) -> str:
    return f"{count or 0:,}" if (count or 0) < 10_000 else quantity(count or 0, "count").replace(" ", "\u00a0")


def _known(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value).replace("%", " %")


def _curves(curves: Sequence[Curve]) -> Plots:
    return Plots([curve._repr_html_() for curve in curves], [_curve_words(curve) for curve in curves])


def _curve_words(curve: Curve) -> str:
    """Where each line of a curve begins and ends."""
    parts = []
    for name, points in curve.series.items():
        known = [(x, y) for x, y in points if y is not None]
        if known:
            (_, begin), (x, end) = known[0], known[-1]
            label = f"{name} " if len(curve.series) > 1 else ""
            parts.append(f"{label}{short(begin)} \u2192 {short(end)} at {curve.x_label} {short(x)}")
    return f"{curve.title}, {curve.y_label}: {'; '.join(parts) or 'no values'}"


def _items(texts: Mapping[str, str]) -> Items:
    return Items([(name, text, ()) for name, text in texts.items()])


def _steps(report: RunReport) -> Items:
    return Items([(str(step["name"]), *step_in_words(step)) for step in report.steps], numbered=True)


def _break_even(report: RunReport) -> Iterator[Block]:
    found = report.break_even
    if found is not None:
        yield Text(" ".join(found.sentences))
        amounts = {"one inference before": found.before, "one inference after": found.after, "making it": found.cost}
        rows = {k: f"{quantity(x.joules, 'J')}{_spread(x.interval, 'J')}, {x.source}" for k, x in amounts.items()}
        for name, value, ends in (
            ("inferences until then", found.inferences, found.inferences_interval),
            ("days until then", found.days, found.days_interval),
        ):
            if value is not None:
                rows[name] = f"{_count(value)}{_spread(ends)}"
        yield _items(rows)
        yield _curves([Curve(**found.plot())])


def _spread(ends: tuple[float, float] | None, unit: str = "") -> str:
    if ends is None:
        return ""
    low, high = ((quantity(x, unit) if unit else _count(x)) if math.isfinite(x) else "never" for x in ends)
    return f" ({low} to {high})"


def _count(value: float) -> str:
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else short(value)


def _reproduce(report: RunReport) -> Iterator[Block]:
    if report.command:
        yield Code(report.command)
    if report.seed is not None:
        yield Text(f"The seed is {report.seed}. Equal seeds and versions give equal models on the same kind of CPU.")
