"""The verdict of a report in a sentence, with tiles: what was won and lost, and whether the budget holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfgreen.reports import figures
from tfgreen.reports.limits import Limit
from tfgreen.reports.metric import Metric
from tfgreen.reports.variant import Figure, Variant
from tfgreen.typing import PlainDict

WITHIN = "within the margin of error"  # intervals overlap
_TOLD: tuple[Figure, ...] = ("latency_ms", "energy")
_PHRASES: dict[Figure, str] = {"gzip_bytes": " gzipped", "energy": " energy per inference"}


@dataclasses.dataclass(frozen=True)
class Tile:
    """A figure in large: what changed, of what, from where to where; ``good`` is None where nothing did."""

    value: str
    label: str
    detail: str
    good: bool | None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A sentence; whether all limits hold, None without a budget or where one is unknown; and the tiles."""

    sentence: str
    holds: bool | None
    tiles: tuple[Tile, ...]

    def to_dict(self) -> PlainDict:
        """Plain values."""
        return {**dataclasses.asdict(self), "tiles": [dataclasses.asdict(tile) for tile in self.tiles]}


def judge(chosen: Variant, first: Variant, metric: Metric, limits: Sequence[Limit]) -> Verdict:
    """Judge a variant against the limits, or where there are none against the first variant."""
    states = [limit.holds for limit in limits]
    holds = None if not states or (None in states and False not in states) else all(states)
    sentence = _of_limits(chosen, first, metric, limits) if limits else _of_changes(chosen, first, metric)
    if not chosen.verified:
        sentence += " Its file was not shown to do what its Keras model does."
    told = [figure for figure in _compared(chosen) if figures.change_text(chosen, first, figure, metric)]
    return Verdict(sentence, holds, tuple(_tile(chosen, first, figure, metric) for figure in told))


def listed(texts: Sequence[str]) -> str:
    """Texts in a row, with "and" before the last."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))


def _of_limits(chosen: Variant, first: Variant, metric: Metric, limits: Sequence[Limit]) -> str:
    """How many limits hold, what is wrong with the others, and, where all hold, what that is worth."""
    missed, kept, unknown = ([limit for limit in limits if limit.holds is state] for state in (False, True, None))
    told = missed or kept
    texts = [f"{x.name} is unknown ({x.reason})" for x in unknown]
    if not told:
        return f"{listed(texts)}."
    share = f"all {len(limits)} limits" if len(told) == len(limits) else f"{len(told)} of {len(limits)} limits"
    head = f"{chosen.name} {'misses' if missed else 'keeps'} {'its limit' if len(limits) == 1 else share}"
    more = [f"{x.name} is {x.value_text}, {x.margin_text}" for x in missed]
    if len(kept) == len(limits) and chosen is not first:
        more = _gist(chosen, first, metric)
    return "; ".join([f"{head}: {listed(more)}" if more else head, *texts]) + "."


def _gist(chosen: Variant, first: Variant, metric: Metric) -> list[str]:
    """What became of the size and of the metric."""
    size = _compared(chosen)[0]
    change = figures.change_text(chosen, first, size, metric).replace("\u00d7", " times")
    texts = [f"{change}{_PHRASES.get(size, '')} than {first.name}"] if change not in ("", "same") else []
    return texts + ([_of_metric(chosen, first, metric)] if chosen.metric is not None else [])


def _of_changes(chosen: Variant, first: Variant, metric: Metric) -> str:
    if chosen is first:
        known = [figure for figure in ("metric", *_compared(chosen)) if chosen.number(figure) is not None]
        texts = [
            f"{figures.label(x, metric)} {figures.value_text(chosen, x, metric)}" for x in dict.fromkeys(known)
        ]
        return f"{chosen.name}: {listed(texts) if texts else 'no figure is known yet'}."
    is_, needs, same = list[str](), list[str](), list[str]()
    for figure in _compared(chosen):
        text = "" if figure == "metric" else figures.change_text(chosen, first, figure, metric)
        phrase = text.replace("\u00d7", " times") + _PHRASES.get(figure, "") + _kind(chosen, figure)
        if text == "same":
            same.append(figures.label(figure, metric))
        elif text:
            (needs if figure == "energy" else is_).append(phrase)
    parts = [f"is {', '.join(is_) if needs else listed(is_)}"] * bool(is_) + [f"needs {listed(needs)}"] * bool(needs)
    if parts:
        alike = f", with the same {listed(same)}" if same else ""
        sentence = f"{chosen.name} {listed(parts)} than {first.name}{alike}"
    else:
        what = f"has the {listed(same)} of" if same else "after"
        sentence = f"{chosen.name} {what} {first.name}"
    return f"{sentence}; {_of_metric(chosen, first, metric)}."


def _of_metric(chosen: Variant, first: Variant, metric: Metric) -> str:
    change = figures.change_text(chosen, first, "metric", metric)
    if not change:
        return f"how {metric.name} changed is not known"
    if change == "same":
        return f"{metric.name} is the same"
    more, less = ("gains", "loses") if metric.higher_is_better else ("rises by", "falls by")
    what = f"{metric.name} {more if change[0] == '+' else less} {change[1:]}"
    return what if figures.differs(chosen, first, "metric") else f"{what}, {WITHIN}"


def _compared(chosen: Variant) -> tuple[Figure, ...]:
    """What a variant is judged by: its size as it is sent, the metric, latency and energy."""
    size: Figure = "size_bytes" if chosen.gzip_bytes is None else "gzip_bytes"
    return (size, "metric", *_TOLD)


def _tile(chosen: Variant, first: Variant, figure: Figure, metric: Metric) -> Tile:
    change = figures.change_text(chosen, first, figure, metric)
    value, _, rest = change.partition(" ")
    if figure == "metric":
        rest = f"{rest} of {metric.name}" if rest else metric.name
    label = rest + _PHRASES.get(figure, "") + _kind(chosen, figure, ", {}")
    if change == "same":
        label = figures.label(figure, metric)
    detail = " \u2192 ".join(figures.value_text(one, figure, metric) for one in (first, chosen))
    real = figures.differs(chosen, first, figure)
    if change != "same" and not real:
        detail += f", {WITHIN}"
    value = value.replace("-", "\u2212")  # a minus as wide as a digit
    return Tile(value, label, detail, figures.is_better(chosen, first, figure, metric) if real else None)


def _kind(variant: Variant, figure: Figure, form: str = " ({})") -> str:
    """That a figure is estimated; measured and counted ones need no word."""
    return form.format("estimated") if variant.sources.get(figure, "").startswith("estimated") else ""
