"""Space: the settings that a search decides, as numbers that a sampler draws, and candidates made of them."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Mapping
from typing import Any

from tfgreen.errors import invalid_value
from tfgreen.recipes.recipe.choices import Choice, Open, Range, open_places
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True)
class Place:
    """A setting to decide: where it stands, its choice or range, and the option that has to be chosen to need it."""

    path: str
    open: Open
    parent: str = ""
    option: int = 0

    @functools.cached_property
    def options(self) -> tuple[Any, ...]:
        """Those of a choice, numbers in their order: a sampler then learns that what is near is alike."""
        options = self.open.options if isinstance(self.open, Choice) else ()
        return tuple(sorted(options)) if self.is_ordered else options

    @functools.cached_property
    def is_ordered(self) -> bool:
        """Whether it is a choice of numbers."""
        options = self.open.options if isinstance(self.open, Choice) else ()
        return bool(options) and all(isinstance(x, numbers.Real) and not isinstance(x, bool) for x in options)


class Space:
    """All settings to decide, by name; those within an option of a choice are needed once it is chosen.

    A draw holds a number for every name: the number of an option, or that from a range. Draws that differ only in what
    is not needed are the same candidate.
    """

    def __init__(self, space: Mapping[str, Open]) -> None:
        if not space:
            fix = "Write {choice: [...]} or {range: [low, high]} for a setting."
            raise invalid_value("space", expected="settings to decide", received="none", fix=fix)
        self.places: dict[str, Place] = {}
        self._add(space)
        self.size = math.prod(_size(place) for place in space.values())  # candidates; inf for a continuous range

    def _add(self, space: Mapping[str, Open], parent: str = "", option: int = 0) -> None:
        for path, place in space.items():
            name = f"{path} of option {option + 1}" if path in self.places else path
            self.places[name] = Place(path, place, parent, option)
            for number, value in enumerate(self.places[name].options):
                self._add(dict(open_places(value, path)), name, number)

    def chosen(self, draw: Mapping[str, Any]) -> list[str]:
        """The names that a draw needs, outer ones before inner ones."""
        found: list[str] = []
        for name, place in self.places.items():
            if not place.parent or (place.parent in found and int(draw[place.parent]) == place.option):
                found.append(name)
        return found

    def settings(self, draw: Mapping[str, Any]) -> PlainDict:
        """The candidate that a draw means: name -> value, of what is needed, outer settings before inner ones."""
        return {
            name: self.places[name].options[int(draw[name])] if self.places[name].options else draw[name]
            for name in self.chosen(draw)
        }

    def shown(self, draw: Mapping[str, Any]) -> PlainDict:
        """The candidate that a draw means, without options of which other settings say more."""
        return {name: x for name, x in self.settings(draw).items() if not any(True for _ in open_places(x, ""))}

    def covers(self, draw: Mapping[str, Any]) -> bool:
        """Whether a draw holds all names; that of a trial which is being drawn does not yet."""
        return len(draw) == len(self.places)

    def draw(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The draw that means a candidate; what it does not need is at its first option or low end."""
        found: dict[str, Any] = {}
        for name, place in self.places.items():
            if isinstance(place.open, Range):
                found[name] = settings.get(name, place.open.low)
            elif name not in settings:
                found[name] = 0
            else:
                place.open.check(name, settings[name])
                same = [type(option) is type(settings[name]) and option == settings[name] for option in place.options]
                found[name] = same.index(True)
        return found


def _size(place: Open) -> float:
    if isinstance(place, Choice):
        return sum(math.prod(_size(x) for _, x in open_places(value, "")) for value in place.options)
    step = place.step or (1 if place.whole else 0)
    return round((place.high - place.low) / step) + 1 if step else math.inf
