"""Which of n places are meant, and small numbers, as few bytes: a bitmap, or the gaps between the places.

A gap is a byte, and 255 says that it goes on with the next one. Once deflated, gaps of places drawn at random take
about the entropy of the choice, n H(p) bits for a share p; without, a bitmap is smaller from one place in eight on.
"""

from __future__ import annotations

import numpy as np

from tfgreen.errors import InvalidValueError, invalid_value

BITMAP, GAPS = 0, 1


def damaged(subject: str, received: object) -> InvalidValueError:
    """The error for an update that is not what ``tg.UpdateCodec`` wrote."""
    fix = "Have the client send the update again."
    return invalid_value(subject, expected="an update that tg.UpdateCodec.encode wrote", received=received, fix=fix)


def estimated_bytes(data: np.ndarray, deflated: bool) -> float:
    """How many bytes a uint8 array takes: its own, or by the entropy of its bytes."""
    if not deflated or not data.size:
        return float(data.size)
    counts = np.bincount(data, minlength=256)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / data.size)).sum() / 8)


def encode_positions(places: np.ndarray, size: int, deflated: bool) -> tuple[int, bytes]:
    """Code ascending places below ``size`` as a bitmap or as gaps, whichever is smaller: which, and the bytes."""
    chosen = np.zeros(size, bool)
    chosen[places] = True
    bitmap = np.packbits(chosen)
    between = np.diff(places, prepend=-1) - 1
    more, last = np.divmod(between, 255)
    gaps = np.full(places.size + int(more.sum()), 255, np.uint8)
    gaps[np.cumsum(more + 1) - 1] = last
    # Huffman codes of whole bits come closer to the entropy of gaps than to that of a bitmap, mostly zeros.
    if 0.9 * estimated_bytes(gaps, deflated) <= estimated_bytes(bitmap, deflated):
        return GAPS, gaps.tobytes()
    return BITMAP, bitmap.tobytes()


def decode_positions(kind: int, data: bytes, count: int, size: int, name: str) -> np.ndarray:
    """The places that :func:`encode_positions` coded; bytes that cannot be ``count`` places are refused."""
    coded = np.frombuffer(data, np.uint8)
    if kind == BITMAP:
        if coded.size != -(-size // 8):
            raise damaged(name, f"a bitmap of {coded.size} bytes for {size} weights")
        places = np.flatnonzero(np.unpackbits(coded, count=size))
    elif kind == GAPS:
        ends = coded != 255
        places = np.cumsum(coded, dtype=np.int64)[ends]
        places += np.arange(places.size)
        if coded.size and (not ends[-1] or places[-1] >= size):
            raise damaged(name, f"a place beyond its {size} weights")
    else:
        raise damaged(name, f"places of kind {kind}")
    if places.size != count:
        raise damaged(name, f"{places.size} places instead of {count}")
    return places


def code_width(count: int) -> int:
    """Bits in which ``count`` different numbers are packed: 1, 4 or 8."""
    return 1 if count <= 2 else 4 if count <= 16 else 8


def pack(numbers: np.ndarray, width: int) -> bytes:
    """Numbers (uint8) of ``width`` bits, 1, 4 or 8, as bytes; the first stands in the highest bits."""
    if width == 1:
        return np.packbits(numbers).tobytes()
    if width == 4:
        even = np.zeros(-(-numbers.size // 2) * 2, np.uint8)
        even[: numbers.size] = numbers
        pairs = even.view("<u2")
        return (pairs << 4 | pairs >> 8).astype(np.uint8).tobytes()
    return numbers.tobytes()


def packed_bytes(count: int, width: int) -> int:
    """How many bytes :func:`pack` makes of ``count`` numbers."""
    return -(-count * width // 8)


def unpack(data: bytes | memoryview, width: int, count: int) -> np.ndarray:
    """The ``count`` numbers that :func:`pack` packed."""
    packed = np.frombuffer(data, np.uint8)
    if width == 1:
        return np.unpackbits(packed, count=count)
    if width == 4:
        pairs = packed.astype("<u2")
        return (pairs >> 4 | (pairs & 15) << 8).view(np.uint8)[:count]
    return packed
