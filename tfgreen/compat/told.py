"""What compat says: once where it does better than TFMOT and so does something else, and where it has another way."""

from __future__ import annotations

import functools
import sys
import warnings
from typing import NoReturn

from tfgreen.errors import InvalidValueError


class TfmotWarning(UserWarning):
    """A name of TFMOT's does something else here, on purpose."""


@functools.cache
def tell_difference(name: str, text: str) -> None:
    """Warn, once in a process, of what a name of TFMOT's does better and therefore differently."""
    warnings.warn(f"{name} differs from TFMOT on purpose: {text}", TfmotWarning, stacklevel=_calls_inside() + 1)


def _calls_inside() -> int:
    """How many calls of tfgreen lie between here and the user's line."""
    frame, calls = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_back.f_globals.get("__name__", "").startswith("tfgreen."):
        frame, calls = frame.f_back, calls + 1
    return calls


def raise_answer(name: str, way: str) -> NoReturn:
    """Raise for a name of TFMOT's that has no counterpart, with the way that there is."""
    raise InvalidValueError(f"{name} of TFMOT has no counterpart in tfgreen. {way}")
