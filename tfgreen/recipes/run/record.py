"""Record: what is told of a step that is done."""

from __future__ import annotations

import dataclasses

from tfgreen.recipes.run.account import Spent
from tfgreen.reports.curves import Curve
from tfgreen.reports.limits import Limit
from tfgreen.tables import plain
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A step that is done.

    Attributes:
        name: Its verb.
        key: What it depends on, see :mod:`tfgreen.recipes.run.keys`.
        settings: Those of its config.
        spent: What it took.
        notes, curves, limits: What it said, recorded, and held the file to.
        cut: Why it ended before its last epoch, with the budget of the run that was spent; or "".
        exports: The names of the files that it made.
        values: What it measured.
    """

    name: str
    key: str
    settings: PlainDict
    spent: Spent = Spent()
    notes: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()
    limits: tuple[Limit, ...] = ()
    cut: str = ""
    exports: tuple[str, ...] = ()
    values: PlainDict = dataclasses.field(default_factory=dict)

    def to_dict(self) -> PlainDict:
        """Plain values, as ``step.json`` holds them."""
        nested = {"curves": [c.to_dict() for c in self.curves], "limits": [limit.to_dict() for limit in self.limits]}
        return {**plain(vars(self)), **nested, "spent": self.spent.to_dict()}

    @classmethod
    def from_dict(cls, data: PlainDict) -> Record:
        """Rebuild a record from :meth:`to_dict`."""
        built = {
            "spent": Spent(**data["spent"]),
            "curves": tuple(Curve(**curve) for curve in data["curves"]),
            "limits": tuple(Limit.from_dict(limit) for limit in data["limits"]),
            **{name: tuple(data[name]) for name in ("notes", "exports")},
        }
        return cls(**{**data, **built})

    def told(self) -> PlainDict:
        """The step as a report tells of it."""
        energy = {"joules": self.spent.joules} if self.spent.joules is not None else {}
        return {
            "name": self.name, "settings": self.settings, "seconds": self.spent.seconds, **energy,
            "notes": list(self.notes),
        }  # fmt: skip
