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
_CHUNK = 1 << 20  # a multiple of 8, so that chunks of indices end on whole bytes


@dataclasses.dataclass(frozen=True)
class Coded:
    """One array: which form it is in, how to read it, and its bytes.

    Attributes:
        form: ``"raw"``: as it is. ``"codebook"``: values, then an index per element. ``"bitmap"``: a bit per element
            that says whether it is zero, then values and indices of the others. ``"gaps"``: instead of the bitmap the
            number of zeros before each element that is not.
        values: How many values the codebook has; 0 for ``"raw"``.
        stored: How many elements have an index.
        gap_bits: Bits of a gap; 0 where there are none.
        data: The bytes.
    """

    form: Form
    values: int
    stored: int
    gap_bits: int
    data: bytes


def encode(array: np.ndarray) -> Coded:
    """Code an array in the form that takes the fewest bytes.

    Args:
        array: Any shape, a dtype of 1, 2, 4 or 8 bytes. Elements count as equal where all bits are, so -0.0 is no zero.

    Example:
        >>> coded = encode(np.float32([[0.5, 0.25, -1.0, 0.5]] * 100))
        >>> coded.form, len(coded.data)
        ('codebook', 112)
    """
    bits = as_bits(array)
    raw = Coded("raw", 0, bits.size, 0, bits.tobytes())
    if not bits.size:
        return raw
    values, indices = np.unique(bits, return_inverse=True)
    if len(values) > min(_MOST_VALUES, bits.size):
        return raw
    indices = indices.astype(np.uint32)
    sizes: dict[Form, int] = {"raw": len(raw.data), "codebook": _size(bits, len(values), bits.size)}
    zero = int(np.searchsorted(values, 0))
    if zero < len(values) and values[zero] == 0:
        used = np.flatnonzero(indices != zero)
        gaps = np.diff(used, prepend=-1) - 1
        gap_bits = index_bits(int(gaps.max(initial=0)) + 1)
        rest = _size(bits, len(values) - 1, used.size)
        sizes["bitmap"] = -(-bits.size // 8) + rest
        sizes["gaps"] = -(-used.size * gap_bits // 8) + rest
    form = min(sizes, key=lambda name: sizes[name])
    if form == "raw":
        return raw
    if form == "codebook":
        data = values.tobytes() + pack(indices, index_bits(len(values)))
        return Coded(form, len(values), bits.size, 0, data)
    others = indices[used]
    others -= others > zero  # the zero has no index
    head = np.packbits(indices != zero).tobytes() if form == "bitmap" else pack(gaps.astype(np.uint32), gap_bits)
    data = head + np.delete(values, zero).tobytes() + pack(others, index_bits(len(values) - 1))
    return Coded(form, len(values) - 1, used.size, gap_bits if form == "gaps" else 0, data)


def decode(coded: Coded, shape: tuple[int, ...], dtype: np.dtype | str) -> np.ndarray:
    """The array that :func:`encode` coded.

    Raises:
        ValueError: The bytes are not those of such an array.
    """
    size, dtype = math.prod(shape), np.dtype(dtype)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    if coded.form not in get_args(Form) or not 0 <= coded.stored <= size or not 0 <= coded.gap_bits <= 32:
        raise _damaged(f"form '{coded.form}' with {coded.stored} of {size} elements")
    width = index_bits(coded.values)
    lengths = {
        "raw": [size * dtype.itemsize],
        "codebook": [0, coded.values * dtype.itemsize, -(-size * width // 8)],
        "bitmap": [-(-size // 8), coded.values * dtype.itemsize, -(-coded.stored * width // 8)],
        "gaps": [-(-coded.stored * coded.gap_bits // 8), coded.values * dtype.itemsize, -(-coded.stored * width // 8)],
    }[coded.form]
    if len(coded.data) != sum(lengths) or (coded.form in ("raw", "codebook") and coded.stored != size):
        raise _damaged(f"{len(coded.data)} bytes instead of {sum(lengths)}")
    if coded.form == "raw":
        return np.frombuffer(coded.data, unsigned).view(dtype).reshape(shape).copy()
    ends = np.cumsum(lengths)
    values = np.frombuffer(coded.data[ends[0] : ends[1]], unsigned)
    indices = unpack(coded.data[ends[1] :], width, coded.stored)
    if coded.stored and int(indices.max()) >= coded.values:
        raise _damaged(f"an index beyond the {coded.values} values")
    if coded.form == "codebook":
        return values[indices].view(dtype).reshape(shape)
    result = np.zeros(size, unsigned)
    if coded.form == "bitmap":
        used = np.flatnonzero(np.unpackbits(np.frombuffer(coded.data[: ends[0]], np.uint8), count=size))
    else:
        used = np.cumsum(unpack(coded.data[: ends[0]], coded.gap_bits, coded.stored).astype(np.int64) + 1) - 1
    if used.size != coded.stored or (used.size and used[-1] >= size):
        raise _damaged(f"places for {used.size} of {coded.stored} elements")
    result[used] = values[indices]
    return result.view(dtype).reshape(shape)


def as_bits(array: np.ndarray) -> np.ndarray:
    """The elements in a row, as unsigned integers of their own width."""
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")


def index_bits(count: int) -> int:
    """Bits that number ``count`` things: ceil(log2 count).

    Example:
        >>> [index_bits(count) for count in (1, 2, 16, 17)]
        [0, 1, 4, 5]
    """
    return max(count - 1, 0).bit_length()


def pack(indices: np.ndarray, width: int) -> bytes:
    """Unsigned integers of ``width`` bits each, most significant bit first, one after the other.

    Example:
        >>> pack(np.array([1, 2, 3], np.uint32), 2).hex()
        '6c'
    """
    parts = []
    for start in range(0, len(indices) if width else 0, _CHUNK):
        part = indices[start : start + _CHUNK]
        bits = np.empty((len(part), width), np.uint8)
        for place in range(width):
            bits[:, place] = part >> np.uint32(width - 1 - place) & np.uint32(1)
        parts.append(np.packbits(bits).tobytes())
    return b"".join(parts)


def unpack(data: bytes, width: int, count: int) -> np.ndarray:
    """The ``count`` integers that :func:`pack` packed, as uint32."""
    result = np.zeros(count, np.uint32)
    stream = np.frombuffer(data, np.uint8)
    for start in range(0, count if width else 0, _CHUNK):
        size = min(_CHUNK, count - start)
        first = start * width // 8
        bits = np.unpackbits(stream[first : first + -(-size * width // 8)], count=size * width).reshape(size, width)
        for place in range(width):
            result[start : start + size] |= bits[:, place].astype(np.uint32) << np.uint32(width - 1 - place)
    return result


def _size(bits: np.ndarray, values: int, stored: int) -> int:
    return values * bits.itemsize + -(-stored * index_bits(values) // 8)


def _damaged(received: str) -> Exception:
    return invalid_value("coded array", expected="the bytes that encode() wrote", received=received)
