"""Arrays of few different values as bytes: a codebook, indices of ceil(log2 k) bits, and zeros left out.

``encode`` tries each form and keeps the shortest; ``decode`` gives back the same bits. References: S. Han et al.,
"Deep Compression", 2016, arXiv:1510.00149 (codebook, relative index of non-zeros).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, get_args

import numpy as np

from tfgreen.errors import invalid_value

Form = Literal["raw", "codebook", "bitmap", "gaps"]

_MOST_VALUES = 1 << 16  # with more, indices are not worth a codebook
_CHUNK = 1 << 16  # a multiple of 8, so that chunks of indices end on whole bytes


@dataclasses.dataclass(frozen=True)
class Coded:
    """One array: its form, how many values its codebook has and elements an index, the bits of a gap, and its bytes.

    ``"raw"``: as it is. ``"codebook"``: values, then an index per element. ``"bitmap"``: a bit per element that says
    whether it is not zero, then values and indices of those. ``"gaps"``: instead of the bitmap the number of zeros
    before each element that is not.
    """

    form: Form
    values: int
    stored: int
    gap_bits: int
    data: bytes


def encode(array: np.ndarray) -> Coded:
    """Code an array, of any shape and a dtype of 1, 2, 4 or 8 bytes, in the form that takes the fewest bytes.

    Elements count as equal where all bits are, so -0.0 is no zero.
    """
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
    raw = Coded("raw", 0, bits.size, 0, bits.tobytes())
    values, indices = np.unique(bits, return_inverse=True)
    if not bits.size or len(values) > _MOST_VALUES:
        return raw
    indices = indices.astype(np.uint32)
    data = values.tobytes() + pack(indices, index_bits(len(values)))
    forms = [raw, Coded("codebook", len(values), bits.size, 0, data)]
    if values[0] == 0:  # it comes first, because they are unsigned, and has no index below
        used, count = np.flatnonzero(bits), len(values) - 1
        gaps = (np.diff(used, prepend=-1) - 1).astype(np.uint32)
        gap_bits = index_bits(int(gaps.max(initial=0)) + 1)
        data = values[1:].tobytes() + pack(indices[used] - 1, index_bits(count))
        forms.append(Coded("bitmap", count, used.size, 0, np.packbits(bits != 0).tobytes() + data))
        forms.append(Coded("gaps", count, used.size, gap_bits, pack(gaps, gap_bits) + data))
    return min(forms, key=lambda coded: len(coded.data))


def decode(coded: Coded, shape: tuple[int, ...], dtype: np.dtype | str) -> np.ndarray:
    """The array that :func:`encode` coded; bytes that cannot be those of one are refused."""
    size, dtype = math.prod(shape), np.dtype(dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    if coded.form not in get_args(Form) or not 0 <= coded.stored <= size or not 0 <= coded.gap_bits <= 32:
        raise _damaged(f"form '{coded.form}' with {coded.stored} of {size} elements")
    width = index_bits(coded.values)
    head = _bytes({"bitmap": size, "gaps": coded.stored * coded.gap_bits}.get(coded.form, 0))
    values_end = head + coded.values * dtype.itemsize
    length = size * dtype.itemsize if coded.form == "raw" else values_end + _bytes(coded.stored * width)
    if len(coded.data) != length or (coded.form in ("raw", "codebook") and coded.stored != size):
        raise _damaged(f"{len(coded.data)} bytes instead of {length}")
    if coded.form == "raw":
        return np.frombuffer(coded.data, unsigned).view(dtype).reshape(shape).copy()
    values = np.frombuffer(coded.data[head:values_end], unsigned)
    indices = unpack(coded.data[values_end:], width, coded.stored)
    if coded.stored and int(indices.max()) >= coded.values:
        raise _damaged(f"an index beyond the {coded.values} values")
    if coded.form == "codebook":
        return values[indices].view(dtype).reshape(shape)
    if coded.form == "bitmap":
        used = np.flatnonzero(np.unpackbits(np.frombuffer(coded.data[:head], np.uint8), count=size))
    else:
        used = np.cumsum(unpack(coded.data[:head], coded.gap_bits, coded.stored).astype(np.int64) + 1) - 1
    if used.size != coded.stored or (used.size and used[-1] >= size):
        raise _damaged(f"places for {used.size} of {coded.stored} elements")
    result = np.zeros(size, unsigned)
    result[used] = values[indices]
    return result.view(dtype).reshape(shape)


def index_bits(count: int) -> int:
    """Bits that number ``count`` things: ceil(log2 count)."""
    return max(count - 1, 0).bit_length()


def pack(indices: np.ndarray, width: int) -> bytes:
    """Unsigned integers of ``width`` bits each, most significant bit first, one after the other."""
    places = np.arange(width, dtype=np.uint32)[::-1]
    parts = (indices[start : start + _CHUNK, None] for start in range(0, len(indices), _CHUNK))
    return b"".join(np.packbits((part >> places & 1).astype(np.uint8)).tobytes() for part in parts)


def unpack(data: bytes, width: int, count: int) -> np.ndarray:
    """The ``count`` integers that :func:`pack` packed, as uint32."""
    result, stream = np.zeros(count, np.uint32), np.frombuffer(data, np.uint8)
    powers = np.uint32(1) << np.arange(width, dtype=np.uint32)[::-1]
    for start in range(0, count, _CHUNK):
        first, size = start * width // 8, min(_CHUNK, count - start)
        bits = np.unpackbits(stream[first : first + _bytes(size * width)], count=size * width).reshape(size, width)
        result[start : start + size] = bits @ powers
    return result


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def _damaged(received: str) -> Exception:
    return invalid_value("coded array", expected="the bytes that encode() wrote", received=received)
