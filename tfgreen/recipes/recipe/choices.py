"""Choices: settings that a search is to decide, where they stand in a recipe, and a recipe's settings once decided."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, Union

from tfgreen.checks import check_bool, check_number
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values, which may be lists, dicts (with choices of their own) or None."""

    options: tuple[Any, ...]

    def to_dict(self) -> PlainDict:
        """As a recipe writes it."""
        return {"choice": [written(option) for option in self.options]}

    def check(self, subject: str, value: object) -> None:
        """Raise unless ``value`` is one of the options, in its type too."""
        if not any(type(value) is type(option) and value == option for option in self.options):
            raise invalid_value(subject, expected=f"one of {list(self.options)}", received=repr(value))


@dataclasses.dataclass(frozen=True)
class Range:
    """A number from ``low`` to ``high``, both included: whole where both ends and the step are."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the number is an integer."""
        return all(isinstance(number, int) for number in (self.low, self.high, 1 if self.step is None else self.step))

    def to_dict(self) -> PlainDict:
        """As a recipe writes it."""
        others = {"log": self.log or None, "step": self.step}
        return {"range": [self.low, self.high], **{name: value for name, value in others.items() if value is not None}}

    def check(self, subject: str, value: object) -> None:
        """Raise unless ``value`` is a number within the range."""
        check_number(subject, value, minimum=self.low, maximum=self.high)


Open: TypeAlias = Union[Choice, Range]


def read_choices(value: Any, subject: str) -> Any:
    """Settings as a recipe writes them, with a :class:`Choice` or :class:`Range` in place of each of their dicts."""
    if isinstance(value, Mapping) and "choice" in value:
        return _choice(value, subject)
    if isinstance(value, Mapping) and "range" in value:
        return _range(value, subject)
    if isinstance(value, Mapping):
        return {key: read_choices(item, f"{subject}.{key}") for key, item in value.items()}
    return value


def _choice(value: Mapping[str, Any], subject: str) -> Choice:
    options = value["choice"]
    if len(value) > 1 or not isinstance(options, (list, tuple)) or not options:
        raise invalid_value(subject, expected="{choice: [a, b, ...]} alone", received=dict(value))
    return Choice(tuple(read_choices(option, subject) for option in options))


def _range(value: Mapping[str, Any], subject: str) -> Range:
    ends = value["range"]
    unknown = sorted(set(value) - {"range", "log", "step"})
    if unknown or not isinstance(ends, (list, tuple)) or len(ends) != 2:
        expected = "{range: [low, high]}, with log: true or step: a number where they are wanted"
        raise invalid_value(subject, expected=expected, received=dict(value))
    low, high = ends
    check_number(f"{subject}, low end", low)
    check_number(f"{subject}, high end", high, above=low)
    step, log = value.get("step"), value.get("log", False)
    check_bool(f"{subject}, log", log)
    check_number(f"{subject}, step", step, above=0, optional=True)
    if log and (low <= 0 or step is not None):
        expected = "a low end above 0 and no step with log: true"
        raise invalid_value(subject, expected=expected, received=dict(value))
    if step is not None and not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-9):
        raise invalid_value(f"{subject}, step", expected=f"a part of {high - low:g}", received=step)
    return Range(low, high, log, step)


def open_places(value: Any, path: str) -> Iterator[tuple[str, Open]]:
    """The choices and ranges in settings, by where they stand; those within an option only come once it is chosen."""
    if isinstance(value, (Choice, Range)):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from open_places(item, f"{path}.{key}")


def decided(value: Any, path: str, values: Mapping[str, Any]) -> Any:
    """The settings with ``values``, by place, where choices and ranges stand."""
    if isinstance(value, (Choice, Range)):
        return values.get(path, value)
    if isinstance(value, Mapping):
        return {key: decided(item, f"{path}.{key}", values) for key, item in value.items()}
    return value


def written(value: Any) -> Any:
    """Settings as a recipe writes them: the inverse of :func:`read_choices`."""
    if isinstance(value, (Choice, Range)):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: written(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [written(item) for item in value]
    return value


def samples_of(value: Any) -> Iterator[Any]:
    """Settings without choices, to be checked: all first options, then each other option and end beside first ones."""
    first = _first(value)
    yield first
    places = dict(open_places(value, ""))
    for path, place in places.items():
        ends = place.options if isinstance(place, Choice) else (place.low, place.high)
        for end in ends:
            for inner in samples_of(end):
                yield _first(decided(value, "", {path: inner}))


def _first(value: Any) -> Any:
    if isinstance(value, Choice):
        return _first(value.options[0])
    if isinstance(value, Range):
        return value.low
    if isinstance(value, Mapping):
        return {key: _first(item) for key, item in value.items()}
    return value


def check_mapping(subject: str, value: object) -> None:
    """Raise unless ``value`` is a dict by name."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise invalid_type(subject, expected="settings by name, such as {epochs: 4}", received=value)
