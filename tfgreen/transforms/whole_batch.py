"""What a whole batch leaves in the state of activations, for the parts in which it then goes through the model."""

from __future__ import annotations

import collections
import contextlib
import contextvars
from collections.abc import Iterator, Sequence

import keras
import tensorflow as tf

from tfgreen.typing import Tensor


class WholeBatch:
    """The values that the variables of layers have after each call of them with a whole batch.

    A layer that is called several times has other values in each call, and a replica of
    ``tf.distribute.MirroredStrategy`` others than it stores, which are the averages over replicas.
    """

    def __init__(self) -> None:
        self._values: dict[int, list[list[Tensor]]] = collections.defaultdict(list)
        self._calls: dict[int, int] = collections.defaultdict(int)

    def keep(self, layer: keras.Layer, values: Sequence[Tensor]) -> None:
        """Note the values after a call with the whole batch."""
        self._values[id(layer)].append([tf.identity(value) for value in values])

    def values(self, layer: keras.Layer) -> list[Tensor] | None:
        """Those of the same call, for the next call with a part of the batch; None if there was none."""
        known = self._values.get(id(layer))
        if known is None:
            return None
        self._calls[id(layer)] += 1
        return known[(self._calls[id(layer)] - 1) % len(known)]


_kept: contextvars.ContextVar[WholeBatch | None] = contextvars.ContextVar("kept", default=None)
_given: contextvars.ContextVar[WholeBatch | None] = contextvars.ContextVar("given", default=None)


def kept_batch() -> WholeBatch | None:
    """What the values after each call are noted in by now, in this thread."""
    return _kept.get()


def given_batch() -> WholeBatch | None:
    """The whole batch of which this thread computes a part."""
    return _given.get()


def keeping(batch: WholeBatch) -> contextlib.AbstractContextManager[None]:
    """In the block, layers note their values in ``batch``."""
    return _holding(_kept, batch)


def giving(batch: WholeBatch) -> contextlib.AbstractContextManager[None]:
    """In the block, layers have the values of ``batch``, and do not move them."""
    return _holding(_given, batch)


@contextlib.contextmanager
def _holding(variable: contextvars.ContextVar[WholeBatch | None], batch: WholeBatch) -> Iterator[None]:
    token = variable.set(batch)
    try:
        yield
    finally:
        variable.reset(token)
