"""Amounts as people write them: a number, or a text with a unit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from tfgreen.checks import check_number
from tfgreen.errors import invalid_value

# Unit that numbers are in -> the other units, and how many of it each is.
UNITS: Mapping[str, Mapping[str, float]] = {
    "B": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3},
    "ms": {"ms": 1, "us": 1e-3, "\u00b5s": 1e-3, "s": 1e3},
    "J": {"J": 1, "mJ": 1e-3, "uJ": 1e-6, "\u00b5J": 1e-6, "nJ": 1e-9, "kJ": 1e3},
    "h": {"h": 1, "min": 1 / 60, "s": 1 / 3600},
    "kWh": {"kWh": 1, "Wh": 1e-3, "mWh": 1e-6, "MWh": 1e3},
    "kg": {"kg": 1, "g": 1e-3, "mg": 1e-6, "t": 1e3},
    "share": {"%": 0.01},
}
_TEXT = re.compile(r"\s*([-+]?[\d_]*\.?\d+(?:[eE][-+]?\d+)?)\s*([^\s\d]*)\s*")


def amount(subject: str, value: float | str, unit: str) -> float:
    """A number, or a text with a unit, in ``unit``.

    Raises:
        TypeError, ValueError: It is something else, or has another unit; the nearest is named.

    Example:
        >>> amount("max_size", "100 kB", "B"), amount("max_drop", "1%", "share"), amount("max_latency", 5, "ms")
        (100000.0, 0.01, 5.0)
    """
    if not isinstance(value, str):
        check_number(subject, value)
        return float(value)
    units = UNITS[unit]
    found = _TEXT.fullmatch(value)
    name = found[2] if found else ""
    if found is None or (name and name not in units):
        folded = {known.lower(): known for known in units}
        near = difflib.get_close_matches(name.lower(), folded, 1)
        fix = f"Did you mean '{found[1]}{folded[near[0]]}'?" if found and near else ""
        expected = f"a number, or one with {' or '.join(dict.fromkeys(units))}"
        raise invalid_value(subject, expected=expected, received=repr(value), fix=fix)
    number = float(found[1])
    return number * units[name] if name else number
