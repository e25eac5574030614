"""The report of a run: every figure of every variant with its source, as JSON, Markdown, one HTML file and text."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfgreen.energy.carbon.amount import EnergyAmount
from tfgreen.energy.carbon.break_even import BreakEven
from tfgreen.errors import FileError, invalid_type, invalid_value
from tfgreen.files import made_folder, write_atomic
from tfgreen.reports.curves import Curve
from tfgreen.reports.layer_row import LayerRow
from tfgreen.reports.limits import Limit
from tfgreen.reports.metric import Metric
from tfgreen.reports.page.content import document
from tfgreen.reports.page.html import page
from tfgreen.reports.page.markdown import markdown
from tfgreen.reports.page.text import limits_text, report_html, skipped_text, variants_text
from tfgreen.reports.variant import Variant
from tfgreen.reports.verdict import Verdict, judge
from tfgreen.typing import FilePath, PlainDict
from tfgreen.version import __version__

FORMAT = 1  # of report.json: raised when a key changes its meaning or goes
REPORT_FILES = ("report.json", "report.html", "report.md")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class RunReport:
    """What a run did and what came out of it.

    Attributes:
        variants: The versions of the model; changes are against the first.
        title: What the report is about.
        metric: What ``variant.metric`` is.
        chosen: Name of the variant that the verdict is about; None for the last.
        limits: The budget, with what came out of the chosen variant and the run.
        steps: What was done, in order: each has a ``"name"`` and whatever else describes it; ``"notes"`` are sentences.
        skipped: What was not done -> why.
        layers: A row per layer of the chosen variant.
        curves: What was recorded over time.
        break_even: When the energy of the run is paid back.
        environment: Versions and hardware, as ``tfgreen doctor`` shows them.
        command: The command line that repeats the run.
        seed: Its seed.

    Example:
        >>> import tfgreen as tg
        >>> from tfgreen.reports.variant import FIGURES, Variant
        >>> reasons = {figure: "not asked for" for figure in FIGURES if figure != "size_bytes"}
        >>> told = {"sources": {"size_bytes": "counted"}, "reasons": reasons, "verified": True}
        >>> sizes = {"float32": 4000, "int8": 1000}
        >>> files = [Variant(name=name, size_bytes=size, **told) for name, size in sizes.items()]
        >>> report = tg.RunReport(variants=files)  # as tg.optimize returns one
        >>> print(report.verdict.sentence)
        int8 is 4 times smaller than float32; how accuracy changed is not known.
        >>> [path.name for path in report.save("report")], tg.RunReport.load("report") == report
        (['report.json', 'report.html', 'report.md'], True)
    """

    variants: Sequence[Variant]
    title: str = "tfgreen report"
    metric: Metric = Metric()
    chosen: str | None = None
    limits: Sequence[Limit] = ()
    steps: Sequence[PlainDict] = ()
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    layers: Sequence[LayerRow] = ()
    curves: Sequence[Curve] = ()
    break_even: BreakEven | None = None
    environment: PlainDict = dataclasses.field(default_factory=dict)
    command: str = ""
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("variants", "limits", "layers", "curves"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "steps", tuple(_plain(step) for step in self.steps))
        for name in ("environment", "skipped"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        names = [variant.name for variant in self.variants]
        if not names or len(set(names)) < len(names):
            raise invalid_value("report, variants", expected="one or more with different names", received=names)
        if self.chosen is not None and self.chosen not in names:
            raise invalid_value("report, chosen", expected=f"one of {names}", received=repr(self.chosen))
        for variant in self.variants:
            if self.metric.share and not 0 <= (variant.metric or 0) <= 1:
                expected = "a share from 0 to 1, or a Metric with share=False"
                raise invalid_value(f"variant '{variant.name}', metric", expected=expected, received=variant.metric)
        for step in self.steps:
            if not isinstance(step, dict) or not step.get("name"):
                raise invalid_value("report, step", expected="a dictionary with a 'name'", received=step)

    def __repr__(self) -> str:
        width = shutil.get_terminal_size().columns
        verdict = textwrap.fill(self.verdict.sentence, width, break_on_hyphens=False)
        limits = limits_text(self.limits, width) if self.limits else ""
        variants = variants_text(self.variants, self.metric, width, self.chosen_variant.name)
        parts = (verdict, limits, skipped_text(self.skipped, width), variants)
        return "\n\n".join(filter(None, parts))

    def _repr_html_(self) -> str:
        return report_html(self.variants, self.metric, self.verdict, self.limits, self.skipped)

    @property
    def chosen_variant(self) -> Variant:
        """The variant that the verdict is about."""
        return next((v for v in self.variants if v.name == self.chosen), self.variants[-1])

    @property
    def verdict(self) -> Verdict:
        """Whether the budget holds, or without one what was won and lost against the first variant."""
        return judge(self.chosen_variant, self.variants[0], self.metric, self.limits)

    def to_dict(self) -> PlainDict:
        """Plain values, fit for strict JSON (no NaN), in the format of ``report.json``; ``"verdict"`` is derived."""
        return {
            "format": FORMAT,
            "tfgreen": __version__,
            "title": self.title,
            "verdict": self.verdict.to_dict(),
            "metric": self.metric.to_dict(),
            "chosen": self.chosen,
            "variants": [variant.to_dict() for variant in self.variants],
            "limits": [limit.to_dict() for limit in self.limits],
            "steps": list(self.steps),
            "skipped": self.skipped,
            "layers": [row.to_dict() for row in self.layers],
            "curves": [curve.to_dict() for curve in self.curves],
            "break_even": None if self.break_even is None else self.break_even.to_dict(),
            "environment": self.environment,
            "command": self.command,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, data: PlainDict) -> RunReport:
        """Rebuild a report from :meth:`to_dict` or from a parsed ``report.json``."""
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            received = f"format {data.get('format')}" if isinstance(data, dict) else type(data).__name__
            expected, fix = f"format {FORMAT} of report.json", "Read it with the version of tfgreen that wrote it."
            raise invalid_value("report", expected=expected, received=received, fix=fix)
        if missing := sorted(set(names) - set(data)):
            expected = "the keys of report.json"
            raise invalid_value("report", expected=expected, received=f"a dictionary without {missing}")
        built = {
            "variants": [Variant.from_dict(variant) for variant in data["variants"]],
            "metric": Metric(**data["metric"]),
            "limits": [Limit.from_dict(limit) for limit in data["limits"]],
            "layers": [LayerRow(**row) for row in data["layers"]],
            "curves": [Curve(**curve) for curve in data["curves"]],
            "break_even": None if data["break_even"] is None else _break_even(data["break_even"]),
        }
        return cls(**{**{name: data[name] for name in names}, **built})

    @classmethod
    def load(cls, path: FilePath) -> RunReport:
        """Read a ``report.json``, or the one in a folder."""
        file = Path(path)
        file = file / "report.json" if file.is_dir() else file
        if not file.exists() and (file.parent / "run.json").exists():
            raise FileError(f"{file.parent}: the run is not finished and has no report. Run it again: it goes on.")
        try:
            return cls.from_dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise FileError(f"{file}: not a report.json of tfgreen: {error}") from error

    def to_markdown(self) -> str:
        """The report as Markdown; what the plots show stands in words."""
        return markdown(document(self))

    def to_html(self) -> str:
        """The report as one HTML file that needs nothing else."""
        return page(document(self))

    def save(self, folder: FilePath) -> tuple[Path, Path, Path]:
        """Write ``report.json``, ``report.html`` and ``report.md``, each whole or not at all; return their paths.

        The folder is made if it is missing.
        """
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        contents = (text, self.to_html(), self.to_markdown())
        with made_folder(folder) as target:
            one, two, three = (write_atomic(target / name, text) for name, text in zip(REPORT_FILES, contents))
        return one, two, three


def _break_even(data: PlainDict) -> BreakEven:
    """What ``to_dict`` gave; a bound of None was infinite."""

    def ends(values: list[float | None] | None) -> tuple[float, ...] | None:
        return None if values is None else tuple(math.inf if value is None else value for value in values)

    amounts = {
        name: EnergyAmount(**{**data[name], "interval": ends(data[name]["interval"])})
        for name in ("before", "after", "cost")
    }
    intervals = {name: ends(data[name]) for name in ("inferences_interval", "days_interval")}
    return BreakEven(**{**data, **amounts, **intervals})


def _plain(value: object) -> Any:
    """Copy a value into what JSON has; NumPy scalars become numbers, a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    raise invalid_type("report", expected="plain values (numbers, texts, lists, dictionaries)", received=value)
