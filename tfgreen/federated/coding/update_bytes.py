"""The streams of an update: what is said of each weight, places, numbers, and noise; read with every length checked.

They stand one after the other, because each has its own statistics and deflates best on its own. Noise is the part of
the numbers that takes time to deflate and gets no smaller.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from tfgreen.federated.coding.positions import damaged, decode_positions

_LENGTHS = struct.Struct("<QQ")


class Writer:
    """Collects the parts of an update."""

    def __init__(self) -> None:
        self.heads, self.places, self.numbers, self.noise = bytearray(), bytearray(), bytearray(), bytearray()

    def head(self, layout: str, *values: float) -> None:
        """Add numbers to what is said of a weight; ``layout`` as for :mod:`struct`."""
        self.heads += struct.pack(f"<{layout}", *values)

    def weight(self, mode: int, flags: int, dtype: int, shape: Sequence[int]) -> None:
        """Begin what is said of a weight."""
        self.head(f"BBBB{len(shape)}Q", mode, flags, dtype, len(shape), *shape)

    def positions(self, coded: tuple[int, bytes], count: int) -> None:
        """Add ``count`` places, as :func:`tfgreen.federated.coding.positions.encode_positions` coded them."""
        kind, data = coded
        self.head("BQQ", kind, count, len(data))
        self.places += data

    def joined(self) -> bytes:
        """The streams as one, without the noise."""
        lengths = _LENGTHS.pack(len(self.heads), len(self.places))
        return b"".join([lengths, self.heads, self.places, self.numbers])


class Stream:
    """Bytes that are read from the front."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int, name: str) -> memoryview:
        """The next ``count`` bytes; refused, in the name of the weight, where there are fewer."""
        if count > self.left:
            raise damaged(name, f"{self.left} bytes where {count} are announced")
        self._at += count
        return self._data[self._at - count : self._at]

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at


class Reader:
    """Hands out the parts of an update in the order in which they were written."""

    def __init__(self, data: bytes, noise: bytes = b"") -> None:
        whole = Stream(memoryview(data))
        heads, places = _LENGTHS.unpack(whole.take(_LENGTHS.size, "update"))
        self.heads = Stream(whole.take(heads, "update"))
        self.places = Stream(whole.take(places, "update"))
        self.numbers = Stream(whole.take(whole.left, "update"))
        self.noise = Stream(memoryview(noise))

    def head(self, layout: str, name: str) -> tuple:
        """The next numbers of what is said of a weight."""
        layout = f"<{layout}"
        return struct.unpack(layout, self.heads.take(struct.calcsize(layout), name))

    def positions(self, size: int, name: str) -> np.ndarray:
        """The next places of a weight, all below ``size``."""
        kind, count, length = self.head("BQQ", name)
        return decode_positions(kind, bytes(self.places.take(length, name)), count, size, name)

    def check_end(self) -> None:
        """Refuse an update of which something is left over."""
        left = self.heads.left + self.places.left + self.numbers.left + self.noise.left
        if left:
            raise damaged("update", f"{left} bytes more than its weights take")
