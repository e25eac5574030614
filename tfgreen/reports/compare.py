"""compare_reports: several saved reports side by side, the best of each figure marked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from tfgreen.checks import check_instance
from tfgreen.errors import FileError, invalid_value
from tfgreen.files import made_folder, write_atomic
from tfgreen.reports import figures
from tfgreen.reports.metric import Metric
from tfgreen.reports.page.content import capital, cost_plots, source_notes, variants_blocks
from tfgreen.reports.page.document import Block, Document, Items, Section, Text
from tfgreen.reports.page.html import page
from tfgreen.reports.page.markdown import markdown
from tfgreen.reports.page.words import in_words
from tfgreen.reports.report import RunReport
from tfgreen.reports.variant import Figure, Variant
from tfgreen.reports.verdict import Verdict, listed
from tfgreen.tables import TableResult
from tfgreen.typing import FilePath, PlainDict
from tfgreen.version import __version__

COMPARISON_FILES = ("comparison.json", "comparison.html", "comparison.md")


@dataclasses.dataclass(frozen=True, repr=False)
class ReportComparison(TableResult):
    """The chosen variants of several reports, by the names of their runs; prints as a table.

    Attributes:
        reports: The reports by name.
        variants: The chosen variant of each, under the name of its run; changes are against the first.
        metric: The metric, the same for all.
    """

    reports: dict[str, RunReport]
    variants: tuple[Variant, ...]
    metric: Metric

    @property
    def best(self) -> dict[Figure, list[str]]:
        """The runs with the best value of each figure in which they differ."""
        used = figures.used_figures(self.variants)
        return {figure: names for figure in used if (names := figures.best(self.variants, figure, self.metric))}

    @property
    def verdict(self) -> Verdict:
        """Which run is best at what."""
        merits: dict[str, list[str]] = {}
        for figure, names in self.best.items():
            merits.setdefault(listed(names), []).append(figures.label(figure, self.metric))
        texts = [f"{names} with the best {listed(labels)}" for names, labels in merits.items()]
        head = f"{len(self.variants)} runs"
        return Verdict(f"{head}: {'; '.join(texts)}." if texts else f"{head} with equal figures.", None, ())

    @property
    def remarks(self) -> tuple[str, ...]:
        """What makes the comparison doubtful, in sentences."""
        found = []
        machines = {name: in_words(report.environment.get("cpu")) for name, report in self.reports.items()}
        if len(set(machines.values())) > 1:
            told = ", ".join(f"{name} on {cpu or 'an unknown CPU'}" for name, cpu in machines.items())
            found.append(f"Latency and energy are of different machines and do not compare: {told}.")
        kinds = {v.name: v.energy.source for v in self.variants if v.energy is not None}
        if len(set(kinds.values())) > 1:
            told = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            found.append(f"Energies that were measured and estimated do not compare: {told}.")
        data = {name: in_words(report.variants[0].sources.get("metric")) for name, report in self.reports.items()}
        if len(set(data.values())) > 1:
            found.append(f"{capital(self.metric.name)} was not obtained in the same way: see its source.")
        return tuple(found)

    def document(self) -> Document:
        """What the page says."""
        runs = Items([(name, r.verdict.sentence, ()) for name, r in self.reports.items()])
        sections = [
            Section("Runs", [*variants_blocks(self.variants, self.metric), *map(Text, self.remarks)]),
            Section(f"{capital(self.metric.name)} against cost", list[Block](cost_plots(self.variants, self.metric))),
            Section("What each run says", [runs]),
            Section("Sources of the figures", [source_notes(self.variants, self.metric)], folded=True),
        ]
        footer = f"Written by tfgreen {__version__}. Changes are against {self.variants[0].name}."
        return Document("Runs compared", self.verdict, [section for section in sections if section.blocks], footer)

    def to_dict(self) -> PlainDict:
        """Plain values: the figures of each run, the best of each figure, and the remarks."""
        return {
            "format": 1,
            "tfgreen": __version__,
            "metric": self.metric.to_dict(),
            "runs": [variant.to_dict() for variant in self.variants],
            "best": self.best,
            "remarks": list(self.remarks),
        }

    def to_markdown(self) -> str:
        """The comparison as Markdown."""
        return markdown(self.document())

    def to_html(self) -> str:
        """The comparison as one HTML file that needs nothing else."""
        return page(self.document())

    def save(self, folder: FilePath) -> tuple[Path, Path, Path]:
        """Write ``comparison.json``, ``comparison.html`` and ``comparison.md``; return their paths."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        contents = (text, self.to_html(), self.to_markdown())
        with made_folder(folder) as target:
            one, two, three = (write_atomic(target / name, text) for name, text in zip(COMPARISON_FILES, contents))
        return one, two, three

    def _rows(self) -> list[list[str]]:
        best, used = self.best, figures.used_figures(self.variants)

        def cell(variant: Variant, figure: Figure) -> str:
            mark = " *" if variant.name in best.get(figure, ()) else "  "
            return figures.value_text(variant, figure, self.metric) + mark

        return [[variant.name, *(cell(variant, figure) for figure in used)] for variant in self.variants]

    @property
    def _headings(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("run", *(figures.label(figure, self.metric) for figure in figures.used_figures(self.variants)))

    def _headline(self) -> str:
        return self.verdict.sentence

    def _remarks(self) -> tuple[str, ...]:
        return (*(["* the best of its column"] if self.best else []), *self.remarks)


def compare_reports(folders: Sequence[FilePath]) -> ReportComparison:
    """Compare the chosen variants of saved reports, of two runs or more, given by their folders or ``report.json``.

    Raises:
        FileError: A folder holds no report.
        ValueError: There are fewer than two, or their metrics differ.

    Example:
        >>> from tfgreen.reports.report import RunReport
        >>> from tfgreen.reports.variant import FIGURES, Variant
        >>> for name, size in {"a": 2000, "b": 1000}.items():
        ...     sources, reasons = {"size_bytes": "counted"}, {f: "not asked for" for f in FIGURES if f != "size_bytes"}
        ...     variant = Variant(name="int8", size_bytes=size, sources=sources, reasons=reasons)
        ...     _ = RunReport(variants=[variant]).save(name)
        >>> print(compare_reports(["a", "b"]))
        run    size
        a    2 kB
        b    1 kB *
        * the best of its column
    """
    check_instance("folders", folders, (list, tuple), "a list of folders")
    if len(folders) < 2:
        raise invalid_value("folders", expected="two reports or more", received=len(folders))
    reports: dict[str, RunReport] = {}
    for folder, name in zip(folders, _names([Path(folder) for folder in folders])):
        reports[name] = RunReport.load(folder)
        first = next(iter(reports.values())).metric
        if reports[name].metric != first:
            told = f"its metric is {reports[name].metric.name}, that of {next(iter(reports))} is {first.name}"
            raise FileError(f"{folder}: cannot be compared: {told}. Compare runs of one task.")
    variants = tuple(dataclasses.replace(report.chosen_variant, name=name) for name, report in reports.items())
    return ReportComparison(reports, variants, next(iter(reports.values())).metric)


def _names(paths: Sequence[Path]) -> list[str]:
    """The name of each folder, or as much of its path as tells it from the others."""
    places = [(path.parent if path.suffix == ".json" else path).absolute() for path in paths]
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise invalid_value("folders", expected="different reports", received=f"{twice} twice")
    count = next(n for n in range(1, 999) if len({place.parts[-n:] for place in places}) == len(places))
    return ["/".join(place.parts[-count:]).lstrip("/") for place in places]
