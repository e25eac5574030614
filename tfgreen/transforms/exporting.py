"""Whether a model is being traced for the converter, which rounds some things by itself."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_exporting: contextvars.ContextVar[bool] = contextvars.ContextVar("exporting", default=False)


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """While a model is traced for the converter: what LiteRT's kernels do by themselves is then left out."""
    token = _exporting.set(True)
    try:
        yield
    finally:
        _exporting.reset(token)


def is_exporting() -> bool:
    """Whether :func:`exporting` is in effect in this thread."""
    return _exporting.get()
