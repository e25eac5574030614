"""What of the warnings of a step its record tells."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]


def own_warnings(said: Iterable[warnings.WarningMessage]) -> list[str]:
    """The texts of those that tfgreen means for the user; the others are warned of again, as they were.

    Example:
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     warnings.warn_explicit("few samples", UserWarning, str(_PACKAGE / "a.py"), 1)
        >>> own_warnings(said)
        ['few samples']
    """
    found = list[str]()
    for warning in said:
        if issubclass(warning.category, UserWarning) and _PACKAGE in Path(warning.filename).parents:
            found.append(str(warning.message))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return found
