"""What compat says: once where it does better than TFMOT and so does something else, and where it has another way."""

from __future__ import annotations

import functools
import warnings
from typing import NoReturn

from tfgreen.errors import InvalidValueError


class TfmotWarning(UserWarning):
    """A name of TFMOT's does something else here, on purpose."""


@functools.cache
def tell_difference(name: str, text: str) -> None:
    """Warn, once in a process, of what a name of TFMOT's does better and therefore differently."""
    warnings.warn(f"{name} differs from TFMOT on purpose: {text}", TfmotWarning, stacklevel=3)


def raise_answer(name: str, way: str) -> NoReturn:
    """Raise for a name of TFMOT's that has no counterpart, with the way that there is."""
    raise InvalidValueError(f"{name} of TFMOT has no counterpart in tfgreen. {way}")
