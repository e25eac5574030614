"""Candidate: settings that a search has tried, how far they came, and why no further."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from tfgreen.recipes.search.problem import Stage
from tfgreen.tables import RowResult, plain
from tfgreen.typing import PlainDict

# It went through all stages; others promised more; it broke a bound that needs no training; it raised.
Outcome = Literal["finished", "dropped", "infeasible", "failed"]


@dataclasses.dataclass(frozen=True)
class Candidate(RowResult):
    """Settings that were tried.

    Attributes:
        number: In the order of their first trials, from 0.
        settings: Name of the setting -> its value.
        outcome: ``"finished"``: measured at all stages. ``"dropped"``: others promised more, so that it was not
            trained further. ``"infeasible"``: it broke a bound before any training.
            ``"failed"``: it could not be measured.
        reason: The outcome in words, "" for finished ones.
        stages: What it came to, stage by stage.
        violations: Bound -> by how much of its limit the candidate is beyond it; 0 or less where it holds.
        draw: What the settings are in the study.
        last_trial: The number of its last trial there.
    """

    number: int
    settings: Mapping[str, object]
    outcome: Outcome
    reason: str
    stages: tuple[Stage, ...]
    violations: Mapping[str, float]
    draw: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    last_trial: int = dataclasses.field(default=-1, repr=False)

    @property
    def figures(self) -> Mapping[str, float]:
        """Those of the last stage it came to; empty if there is none."""
        return self.stages[-1].figures if self.stages else {}

    @property
    def is_feasible(self) -> bool:
        """Whether it was measured at all stages and holds every bound."""
        return self.outcome == "finished" and self.excess == 0

    @property
    def excess(self) -> float:
        """By how much the bounds that it breaks are broken, together."""
        return sum(max(0.0, violation) for violation in self.violations.values())

    def to_dict(self) -> PlainDict:
        """Return the fields as plain values, and ``"figures"``."""
        return {**plain(vars(self)), "figures": dict(self.figures)}
