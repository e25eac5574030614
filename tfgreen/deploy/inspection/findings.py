"""Findings: what a check found, where, and what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar, Literal

from tfgreen.checks import check_instance
from tfgreen.tables import SentenceResult, TableResult, plain
from tfgreen.typing import PlainDict

Severity = Literal["error", "warning"]


@dataclasses.dataclass(frozen=True, repr=False)
class Finding(SentenceResult):
    """One thing that a check found; prints as a sentence or two.

    Attributes:
        subject: What it is about: a layer, an input, a kind of operator.
        message: What was found there.
        fix: What to do, as a sentence; empty where nothing helps.
        severity: ``"error"`` for what cannot work, ``"warning"`` for what may go wrong or costs time.
    """

    subject: str
    message: str
    fix: str = ""
    severity: Severity = "warning"

    def __str__(self) -> str:
        return f"{self.subject}: {self.message} {self.fix}".rstrip()


class Findings(TableResult, tuple[Finding, ...]):
    """What a check found, errors first: a tuple that prints as one line each; empty, and false, where all is well.

    Example:
        >>> found = Findings([Finding("ADD", "it is slow.", "Replace it."), Finding("SIN", "fails.", severity="error")])
        >>> print(found)
        error: SIN: fails.
        warning: ADD: it is slow. Replace it.
        >>> found, found.errors[0].subject
        (<Findings: 1 error, 1 warning>, 'SIN')
    """

    _headings: ClassVar[tuple[str, ...]] = ("severity", "subject", "message", "fix")
    _left = -1

    def __new__(cls, findings: Iterable[Finding] = ()) -> Findings:
        findings = tuple(findings)
        for number, finding in enumerate(findings):
            check_instance(f"findings[{number}]", finding, Finding, "a tg.Finding")
        return super().__new__(cls, sorted(findings, key=lambda finding: finding.severity != "error"))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Those that cannot work."""
        return tuple(finding for finding in self if finding.severity == "error")

    def to_dict(self) -> PlainDict:
        """Return the findings as plain values."""
        return {"findings": plain(tuple(self))}

    def _headline(self) -> str:
        counts = {"error": len(self.errors), "warning": len(self) - len(self.errors)}
        return ", ".join(f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items() if n) or "nothing found"

    def __str__(self) -> str:
        return "\n".join(f"{finding.severity}: {finding}" for finding in self) or "nothing found"

    def _rows(self) -> list[tuple[str, ...]]:
        return [(finding.severity, finding.subject, finding.message, finding.fix) for finding in self]
