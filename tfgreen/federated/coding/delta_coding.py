"""The change of a float weight, rounded to a scale of its own: all of it, or the largest part."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfgreen.federated.coding import positions
from tfgreen.federated.coding.positions import damaged
from tfgreen.federated.coding.update_bytes import Reader, Writer

if TYPE_CHECKING:
    from tfgreen.federated.coding.codec import UpdateCodec

_AMONG_NONZERO, _LARGEST_ONLY, _FOUR_BITS, _NEW_ZEROS, _HALVES = 1, 2, 4, 8, 16
_LEAST = 1024  # changes of each weight that are sent in any case: few of all, and worth as many points as those
_LONG = 1 << 14  # codes from which on the time to deflate them counts
_PART = 1 << 16
_SAMPLED, _SPARE = 8192, 1.2  # places from which the largest are guessed, and how many times as many are looked at
_DEARER = 1.03  # times the bytes that half the time may cost
_LIMIT = {8: 127, 4: 7}
_MAXIMUM = {"float16": 65504.0, "bfloat16": 3.3895e38, "float32": 3.4028e38, "float64": 1.7976e308}


@dataclasses.dataclass(frozen=True)
class Delta:
    """A rounded change.

    Attributes:
        flags: Which of the rest there is.
        scale: The change is this times the codes.
        size: Of how many places the rest counts: all, or those that are not zero before.
        died: Of those the ones that are zero from now on, ascending.
        chosen: Of those the ones that codes are of, ascending; None for all.
        codes: int8.
        rest: What is left of the change, in the shape of the weight.
    """

    flags: int
    scale: float
    size: int
    died: np.ndarray
    chosen: np.ndarray | None
    codes: np.ndarray
    rest: np.ndarray

    def write(self, writer: Writer, mode: int, dtype: int, shape: Sequence[int], codec: UpdateCodec) -> None:
        """Add it to an update."""
        codes = self.codes.view(np.uint8) if codec.bits == 8 else (self.codes + np.int8(8)).view(np.uint8)
        halves = codec.entropy == "deflate" and codec.bits == 8 and _noisy(codes)
        writer.weight(mode, self.flags | (_HALVES if halves else 0), dtype, shape)
        writer.head("d", self.scale)
        for places in (self.died if self.died.size else None, self.chosen):
            if places is not None:
                coded = positions.encode_positions(places, self.size, codec.entropy == "deflate")
                writer.positions(coded, places.size)
        if halves:
            high, low = _halves(codes)
            writer.numbers += positions.pack(high, 4)
            writer.noise += positions.pack(low, 4)
        else:
            writer.numbers += positions.pack(codes, codec.bits)


def encode_delta(
    before: np.ndarray, after: np.ndarray, rest: np.ndarray | None, peak: float, codec: UpdateCodec
) -> Delta | None:
    """Round the change of a weight of largest magnitude ``peak``; None where its dtype has no room to do so."""
    work = _work(after.dtype)
    old, new = before.reshape(-1).astype(work, copy=False), after.reshape(-1).astype(work, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        change = new - old if rest is None else new - old + rest.reshape(-1)
    alive, flags = new != 0, _FOUR_BITS if codec.bits == 4 else 0
    died, places = np.empty(0, np.int64), None
    if not alive.all():
        was = old != 0
        change[~alive] = 0
        if (alive <= was).all() and not was.all():  # no zero came to life
            flags |= _AMONG_NONZERO
            places, died = np.flatnonzero(was), np.flatnonzero(~alive[was])
        else:
            died = np.flatnonzero(was & ~alive)
    counted = change if places is None else change[places]
    largest = float(max(counted.max(initial=0), -counted.min(initial=0)))
    scale = work(largest / _LIMIT[codec.bits])
    if not peak + largest < _MAXIMUM[after.dtype.name] or (largest and scale < np.finfo(work).tiny):
        return None
    chosen, sent = None, counted
    count = max(_LEAST, math.ceil((codec.top_k or 1) * counted.size))
    if count < counted.size:
        chosen = largest_places(np.abs(counted), count)
        sent = counted[chosen]
    codes, at = np.zeros(sent.size, np.int8), _within(places, chosen)
    with np.errstate(under="ignore"):
        for part in _parts(sent.size if scale else 0):
            rounded = sent[part] / scale
            np.rint(rounded, out=rounded)
            codes[part] = rounded
            rounded *= scale
            change[part if at is None else at[part]] -= rounded
    flags |= (_NEW_ZEROS if died.size else 0) | (0 if chosen is None else _LARGEST_ONLY)
    return Delta(flags, float(scale), counted.size, died, chosen, codes, change.reshape(after.shape))


def decode_delta(reader: Reader, flags: int, before: np.ndarray, name: str) -> np.ndarray:
    """The weight of which the change comes next in an update."""
    (factor,) = reader.head("d", name)
    work = _work(before.dtype)
    if not 0 <= factor <= float(np.finfo(work).max):
        raise damaged(name, f"a scale of {factor}")
    found = before.reshape(-1).astype(work)  # a copy
    places = np.flatnonzero(found) if flags & _AMONG_NONZERO else None
    size = found.size if places is None else places.size
    died = reader.positions(size, name) if flags & _NEW_ZEROS else None
    chosen = reader.positions(size, name) if flags & _LARGEST_ONLY else None
    count, width = size if chosen is None else chosen.size, 4 if flags & _FOUR_BITS else 8
    if flags & _HALVES:
        if width == 4:
            raise damaged(name, "halves of four bits")
        streams = (reader.numbers, reader.noise)
        high, low = (positions.unpack(each.take(positions.packed_bytes(count, 4), name), 4, count) for each in streams)
        codes = (high << 4) + low - np.uint8(8)
    else:
        codes = positions.unpack(reader.numbers.take(positions.packed_bytes(count, width), name), width, count)
    signed = codes.view(np.int8) if width == 8 else codes.view(np.int8) - np.int8(8)
    with np.errstate(over="ignore", under="ignore"):
        at = _within(places, chosen)
        for part in _parts(count):
            found[part if at is None else at[part]] += signed[part].astype(work) * work(factor)
        if died is not None:
            found[died if places is None else places[died]] = 0
        return found.reshape(before.shape).astype(before.dtype, copy=False)


def largest_places(magnitude: np.ndarray, count: int) -> np.ndarray:
    """The places of the ``count`` largest, ascending, without those of zero; of equal ones the first."""
    if count >= magnitude.size:
        return np.flatnonzero(magnitude)
    if magnitude.size > _LONG:
        # Sorting out a sample's least, which are not among the largest, takes a fraction of the time.
        sample = magnitude[:: magnitude.size // _SAMPLED]
        least = int(sample.size * (1 - _SPARE * count / magnitude.size))
        if least > 0:
            among = np.flatnonzero(magnitude >= np.partition(sample, least)[least])
            if count <= among.size < magnitude.size:
                return among[largest_places(magnitude[among], count)]
    bound = np.partition(magnitude, magnitude.size - count)[magnitude.size - count]
    if not bound:
        return np.flatnonzero(magnitude)
    places = np.flatnonzero(magnitude >= bound)
    if places.size > count:
        equal = np.flatnonzero(magnitude[places] == bound)
        places = np.delete(places, equal[count - places.size :])
    return places


def _parts(size: int) -> Iterator[slice]:
    """Parts that stay in the cache: arrays as long as a weight would have to be fetched from memory again and again."""
    return (slice(start, min(start + _PART, size)) for start in range(0, size, _PART))


def _halves(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The high and the low four bits of codes, moved so that the high ones are 0 for those around 0."""
    moved = codes + np.uint8(8)
    return moved >> 4, moved & np.uint8(15)


def _noisy(codes: np.ndarray) -> bool:
    """Whether the low halves of many codes are so evenly spread that deflating them would gain next to nothing."""
    if codes.size < _LONG:
        return False
    sample = codes[:: codes.size // _LONG]
    high, _ = _halves(sample)
    apart = positions.estimated_bytes(np.frombuffer(positions.pack(high, 4), np.uint8), True) + sample.size / 2
    return apart < _DEARER * positions.estimated_bytes(sample, True)


def _work(dtype: np.dtype) -> type[np.floating]:
    return np.float64 if dtype == np.float64 else np.float32


def _within(places: np.ndarray | None, chosen: np.ndarray | None) -> np.ndarray | None:
    """Where in the weight the codes are; None for everywhere."""
    if places is None:
        return chosen
    return places if chosen is None else places[chosen]
