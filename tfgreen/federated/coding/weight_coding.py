"""One weight of an update: the change of a float as integers, everything else as the values themselves.

==========  ======================================================  =============================================
mode        what is sent                                            of which weights
==========  ======================================================  =============================================
SAME        nothing                                                 unchanged ones
RAW         the values                                              short ones, integers of many values, snapshots
CODEBOOK    the different values, unless the receiver has them,     those of few different values, float or not:
            and the numbers of those that changed                   clustered weights, masks, assignments
DELTA       a scale, the places, the change over the scale          every other float
==========  ======================================================  =============================================

All but DELTA are exact. In DELTA a weight that is zero stays zero, exactly: where the receiver's zeros stayed, only the
other places are counted, and zeros that are new are listed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tfgreen.errors import invalid_value
from tfgreen.federated.coding import positions
from tfgreen.federated.coding.delta_coding import decode_delta, encode_delta
from tfgreen.federated.coding.positions import damaged
from tfgreen.federated.coding.update_bytes import Reader, Writer

if TYPE_CHECKING:
    from tfgreen.federated.coding.codec import UpdateCodec

SAME, RAW, CODEBOOK, DELTA = range(4)
_DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32",
    "float64", "float8_e4m3fn", "float8_e5m2", "int4", "uint4", "complex64", "complex128",
)
_FLOATS = ("float16", "bfloat16", "float32", "float64")
_SHORT = 16  # bytes up to which a weight is sent as it is
_MOST_VALUES = 256
# flags of a codebook
_SENDS_VALUES, _CHANGED_ONLY = 1, 2


def is_float(array: np.ndarray) -> bool:
    """Whether the change of a weight may be rounded."""
    return array.dtype.name in _FLOATS


def most_bytes(array: np.ndarray) -> int:
    """More bytes than any update of this weight takes before it is deflated."""
    return 512 + 8 * array.ndim + _MOST_VALUES * array.itemsize + array.size * (array.itemsize + 4)


def encode_weight(
    writer: Writer, before: np.ndarray | None, after: np.ndarray, rest: np.ndarray | None, codec: UpdateCodec, name: str
) -> np.ndarray | None:
    """Add a weight to an update; ``rest`` is what earlier updates did not carry, and returned is what this one leaves.

    Without ``before`` the weight is sent exactly.
    """
    if after.dtype.name not in _DTYPES:
        fix = "Leave this weight out of what is sent."
        raise invalid_value(name, expected=f"a dtype of {', '.join(_DTYPES)}", received=after.dtype.name, fix=fix)
    number = _DTYPES.index(after.dtype.name)
    peak = check_finite(after, name) if is_float(after) else 0.0
    bits = _bits(after)
    base = None if before is None else _bits(before)
    if base is not None and _equal(bits, base) and (rest is None or not rest.any()):
        writer.weight(SAME, 0, number, after.shape)
        return None
    if _encode_codebook(writer, base, bits, number, after, codec):
        return None
    if is_float(after) and before is not None and after.nbytes > _SHORT:
        check_finite(before, f"{name} before training")
        delta = encode_delta(before, after, rest, peak, codec)
        if delta is not None:
            delta.write(writer, DELTA, number, after.shape, codec)
            return delta.rest if codec.error_feedback else None
    writer.weight(RAW, 0, number, after.shape)
    writer.numbers += after.tobytes()
    return None


def decode_weight(reader: Reader, before: np.ndarray, name: str) -> np.ndarray:
    """The weight that comes next in an update, a new array of the shape and dtype of ``before``."""
    mode, flags, number, ndim = reader.head("BBBB", name)
    shape = reader.head(f"{ndim}Q", name)
    dtype = _DTYPES[number] if number < len(_DTYPES) else f"number {number}"
    if shape != before.shape or dtype != before.dtype.name:
        fix = "Client and server must have the same model."
        expected, received = f"{before.dtype.name} of shape {before.shape}", f"{dtype} of shape {shape}"
        raise invalid_value(name, expected=expected, received=received, fix=fix)
    if mode == SAME:
        return before.copy()
    if mode == RAW:
        data = reader.numbers.take(before.nbytes, name)
        found = np.frombuffer(data, np.uint8).view(before.dtype).reshape(shape).copy()
    elif mode == CODEBOOK:
        found = _decode_codebook(reader, flags, before, name)
    elif mode == DELTA and is_float(before):
        found = decode_delta(reader, flags, before, name)
    else:
        raise damaged(name, f"mode {mode}")
    if is_float(found):
        check_finite(found, name)
    elif found.dtype == bool and found.view(np.uint8).max(initial=0) > 1:
        raise damaged(name, "bools that are neither 0 nor 1")
    return found


def check_finite(array: np.ndarray, name: str) -> float:
    """The largest magnitude of a float weight; NaN and infinity are refused."""
    if not array.size:
        return 0.0
    largest = max(float(array.max()), -float(array.min()))
    if not math.isfinite(largest):
        fix = "The training that made it has diverged; lower its learning rate."
        raise invalid_value(name, expected="finite weights", received="NaN or infinity", fix=fix)
    return largest


def _bits(array: np.ndarray) -> np.ndarray:
    """The elements in a row as unsigned integers, which compare by their bits; those of 16 bytes as bytes."""
    return array.reshape(-1).view(f"u{array.itemsize if array.itemsize in (1, 2, 4, 8) else 1}")


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a[:1000], b[:1000]) and np.array_equal(a, b)  # most differ at once


def _values(bits: np.ndarray) -> np.ndarray | None:
    """The different values of a weight, ascending, if they are few."""
    sample = bits[:: max(1, bits.size // 2048)]
    if bits.size < 16 or len(np.unique(sample)) > _MOST_VALUES:
        return None
    values = np.unique(bits)
    return values if len(values) <= min(_MOST_VALUES, bits.size // 4) else None


def _encode_codebook(
    writer: Writer, base: np.ndarray | None, bits: np.ndarray, number: int, after: np.ndarray, codec: UpdateCodec
) -> bool:
    """Write a weight of few different values; False where it has many, or takes no fewer bytes that way."""
    values = _values(bits)
    if values is None or bits.size != after.size:
        return False
    known = None if base is None else _values(base)
    same = known is not None and np.array_equal(known, values)
    flags = 0 if same else _SENDS_VALUES
    sent, count, coded = None, bits.size, (0, b"")
    if known is not None and base is not None and len(known) == len(values):
        # Where the values moved, those of equal rank are taken to be the same.
        ranks = (bits, base) if same else (_ranks(values, bits), _ranks(known, base))
        changed = np.flatnonzero(ranks[0] != ranks[1])
        coded = positions.encode_positions(changed, bits.size, codec.entropy == "deflate")
        if len(coded[1]) + changed.size < bits.size // 2:
            sent, count, flags = _ranks(values, bits[changed]), changed.size, flags | _CHANGED_ONLY
    if sent is None:
        sent = _ranks(values, bits)
    writer.weight(CODEBOOK, flags, number, after.shape)
    writer.head("H", len(values))
    if flags & _SENDS_VALUES:
        writer.numbers += values.tobytes()
    if flags & _CHANGED_ONLY:
        writer.positions(coded, count)
    writer.numbers += positions.pack(sent, positions.code_width(len(values)))
    return True


def _ranks(values: np.ndarray, bits: np.ndarray) -> np.ndarray:
    return np.searchsorted(values, bits).astype(np.uint8)


def _decode_codebook(reader: Reader, flags: int, before: np.ndarray, name: str) -> np.ndarray:
    (length,) = reader.head("H", name)
    base = _bits(before)
    known = None if flags & _SENDS_VALUES and not flags & _CHANGED_ONLY else _values(base)
    if not 0 < length <= _MOST_VALUES or base.size != before.size:
        raise damaged(name, f"a codebook of {length} values")
    if flags & _SENDS_VALUES:
        values = np.frombuffer(reader.numbers.take(length * base.itemsize, name), base.dtype)
    elif known is not None and len(known) == length:
        values = known
    else:
        raise damaged(name, "numbers of a codebook that the receiver does not have")
    places = None
    if flags & _CHANGED_ONLY:
        if known is None or len(known) != length:
            raise damaged(name, "changes of a codebook that the receiver does not have")
        places = reader.positions(base.size, name)
    count = base.size if places is None else places.size
    width = positions.code_width(length)
    indices = positions.unpack(reader.numbers.take(positions.packed_bytes(count, width), name), width, count)
    if count and int(indices.max()) >= length:
        raise damaged(name, f"a number beyond the {length} values of its codebook")
    found = values[indices]
    if places is not None and known is not None:
        changed, found = found, values[_ranks(known, base)] if flags & _SENDS_VALUES else base.copy()
        found[places] = changed
    return found.view(before.dtype).reshape(before.shape)
