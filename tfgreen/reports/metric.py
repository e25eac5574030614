"""Metric: what the models of a report are judged by, and the interval of a share that was counted on samples."""

from __future__ import annotations

import dataclasses
import math

from tfgreen.checks import check_bool, check_instance, check_integer, check_number
from tfgreen.errors import invalid_value
from tfgreen.typing import PlainDict

_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """The metric of a task. A ``share`` lies in [0, 1] and reads as percent, its changes as percentage points.

    Example:
        >>> Metric().change(0.842, 0.838), Metric(name="mae", higher_is_better=False, share=False).text(0.25)
        ('+0.40 points', '0.25')
    """

    name: str = "accuracy"
    higher_is_better: bool = True
    share: bool = True

    def __post_init__(self) -> None:
        check_instance("metric, name", self.name, str, "a text")
        if not self.name:
            raise invalid_value("metric, name", expected="a text", received="an empty one")
        check_bool("metric, higher_is_better", self.higher_is_better)
        check_bool("metric, share", self.share)

    def text(self, value: float) -> str:
        """A value in words: percent of a share, four digits of another."""
        return f"{100 * value:.2f} %" if self.share else f"{value:.4g}"

    def change(self, ours: float, theirs: float) -> str:
        """How far a value is from another, or ``"same"``."""
        text = f"{100 * (ours - theirs):+.2f}" if self.share else f"{ours - theirs:+.3g}"
        return "same" if float(text) == 0 else f"{text} points" if self.share else text

    def to_dict(self) -> PlainDict:
        """Plain values."""
        return dataclasses.asdict(self)


def share_interval(share: float, samples: int) -> tuple[float, float]:
    """Where the share of all samples lies with a confidence of 95 %, if ``share`` of some drawn from them has it.

    The interval of Wilson, which holds for shares near 0 and 1 too.

    Example:
        >>> [round(end, 3) for end in share_interval(0.99, 200)]
        [0.964, 0.997]
    """
    check_number("share", share, minimum=0, maximum=1)
    check_integer("samples", samples, minimum=1)
    spread = _Z**2 / samples
    middle = share + spread / 2
    half = _Z * math.sqrt((share * (1 - share) + spread / 4) / samples)
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))
