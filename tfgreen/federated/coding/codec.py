"""UpdateCodec: what a client learned as few bytes.

References: J. Konecny et al., "Federated Learning: Strategies for Improving Communication Efficiency", 2016,
arXiv:1610.05492 (updates instead of weights); Y. Lin et al., "Deep Gradient Compression", 2018, arXiv:1712.01887 (the
largest only, and the rest later); F. Seide et al., "1-Bit Stochastic Gradient Descent", Interspeech 2014 (error
feedback).
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from tfgreen.checks import check_bool, check_number, check_option
from tfgreen.config import Config
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.federated.coding.positions import damaged
from tfgreen.federated.coding.update_bytes import Reader, Writer
from tfgreen.federated.coding.weight_coding import decode_weight, encode_weight, is_float, most_bytes

VERSION = 2
_MAGIC = b"TGFU"
# magic, version, whether deflated, number of weights, checksum of the names, checksum of all that is not itself
_HEADER = struct.Struct("<4sBBIII")
_CHECKSUM = 4  # bytes at the end of the header
_MOST_ZERO = 0.87  # share of zeros from which on their runs make fewer bytes than their frequency

# Weights in the order of ``model.get_weights()``, or by name.
Weights: TypeAlias = "Sequence[np.ndarray] | Mapping[str, np.ndarray]"
W = TypeVar("W", Sequence[np.ndarray], Mapping[str, np.ndarray])
# What the updates of a sender did not carry yet: an array per weight, or None where nothing is left.
UpdateState: TypeAlias = "tuple[np.ndarray | None, ...] | None"


@dataclasses.dataclass(frozen=True)
class UpdateCodec(Config):
    """Code the change of a model's weights as one array of bytes, and decode it; NumPy only.

    The change of a float weight is rounded to a scale per weight, so that it is at most half a scale wrong, and scale =
    largest change / 127 (7 for 4 bits). Zeros of a pruned weight stay zero and cost nothing, a weight of at most 256
    different values (clustered) is sent exactly, its codebook only when it changes, and so are integers, bools and
    weights of up to 16 bytes. Shapes and dtypes (float16, bfloat16 and float64 too) are kept. Compression is no
    protection: an update says as much of the data that it was trained on as its weights do.

    Args:
        top_k: The share of the changes of each weight to send, the largest, in (0, 1]; None for all. 1024 of each are
            sent in any case: they are few of all, and cost accuracy where they come late.
        bits: Of a change: 8 or 4.
        error_feedback: Whether what an update leaves out, by rounding and by ``top_k``, is added to the next one.
        entropy: ``"deflate"``, or None, which saves about half of the time and leaves the bytes a fifth to a half more.

    Raises:
        ValueError: A setting is out of its range.
        TypeError: A setting is of the wrong type.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> before = [rng.normal(size=(200, 200)).astype("float32")]
        >>> after = [before[0] + rng.normal(size=(200, 200)).astype("float32")]
        >>> codec = UpdateCodec(top_k=0.1)
        >>> update, state = codec.encode(before, after)
        >>> before[0].nbytes // len(update), int(np.sum(codec.decode(update, before)[0] != before[0]))
        (24, 4000)
        >>> update, state = codec.encode(before, after, state)  # with what the first one left out
    """

    top_k: float | None = None
    bits: Literal[8, 4] = 8
    error_feedback: bool = True
    entropy: Literal["deflate"] | None = "deflate"

    def __post_init__(self) -> None:
        check_number("top_k", self.top_k, above=0, maximum=1, optional=True)
        check_option("bits", self.bits, (8, 4))
        check_bool("error_feedback", self.error_feedback)
        check_option("entropy", self.entropy, ("deflate", None))

    def encode(self, before: Weights | None, after: Weights, state: UpdateState = None) -> tuple[bytes, UpdateState]:
        """Code what changed from ``before``, which the receiver has, to ``after``.

        Args:
            before: The weights that training started from, or None for an exact snapshot of ``after``.
            after: The weights now, of equal shapes and dtypes: a list or tuple of arrays, or a dict by name.
            state: What :meth:`encode` returned with the last update of this sender, or None before the first.

        Returns:
            The update, and the state for the next one: with ``error_feedback`` an array (float32, or float64 for a
            weight of that) for each weight that was rounded, None for each other; without it, None.

        Raises:
            ValueError: Weights of another model, NaN or infinity, or a dtype that is no number; the weight is named.
            TypeError: No arrays.
        """
        names, new = _arrays(after, "after")
        old: Sequence[np.ndarray | None] = [None] * len(new)
        if before is not None:
            old_names, arrays = _arrays(before, "before")
            _check_same(old_names, arrays, names, new)
            old = arrays
        rests = self._rests(state, names, new)
        writer = Writer()
        each = zip(old, new, rests, names)
        left = [encode_weight(writer, a, b, rest, self, name) for a, b, rest, name in each]
        body = writer.joined()
        if self.entropy == "deflate":
            body = b"".join([_deflated(body), writer.noise])
        header = _HEADER.pack(_MAGIC, VERSION, self.entropy == "deflate", len(new), _names_checksum(after), 0)
        header = header[:-_CHECKSUM]
        checksum = struct.pack("<I", zlib.crc32(body, zlib.crc32(header)))
        return b"".join([header, checksum, body]), tuple(left) if self.error_feedback else None

    def decode(self, update: bytes, before: W) -> W:
        """The sender's weights, as closely as the update says, from those that it started from.

        Any codec decodes the updates of any other. Nothing is unpickled, and no more memory is taken than a few times
        that of ``before``, whatever the bytes say.

        Raises:
            ValueError: The update is damaged, no update, of another version of the format, of another model, larger
                than any of this model, or holds NaN or infinity; where one weight is the reason it is named.
            TypeError: ``update`` is no bytes.
        """
        if not isinstance(update, (bytes, bytearray, memoryview)):
            raise invalid_type("update", expected="bytes", received=update)
        names, arrays = _arrays(before, "before")
        reader = Reader(*_opened(bytes(update), before, names, arrays))
        found = [decode_weight(reader, array, name) for array, name in zip(arrays, names)]
        reader.check_end()
        if isinstance(before, Mapping):
            return dict(zip(before, found))  # type: ignore[return-value]
        return found

    def _rests(
        self, state: UpdateState, names: Sequence[str], weights: Sequence[np.ndarray]
    ) -> Sequence[np.ndarray | None]:
        if state is None or not self.error_feedback:
            return [None] * len(weights)
        if not isinstance(state, Sequence) or isinstance(state, str) or len(state) != len(weights):
            expected = f"what encode returned for these {len(weights)} weights"
            length = f" of {len(state)}" if isinstance(state, Sequence) else ""
            raise invalid_value("state", expected=expected, received=f"{type(state).__name__}{length}")
        for rest, name, weight in zip(state, names, weights):
            if rest is not None and (np.shape(rest) != weight.shape or not is_float(weight)):
                expected = f"what is left of {weight.dtype.name} of shape {weight.shape}"
                raise invalid_value(f"state of {name}", expected=expected, received=f"shape {np.shape(rest)}")
        return state


def _arrays(weights: Weights, argument: str) -> tuple[list[str], list[np.ndarray]]:
    """Names for errors, and the arrays in a row in memory and of the byte order of this machine."""
    if isinstance(weights, Mapping):
        names = [f"weight '{name}'" for name in weights]
        values = list(weights.values())
    elif isinstance(weights, Sequence) and not isinstance(weights, (str, bytes)):
        values = list(weights)
        names = [f"weight {number}, of shape {np.shape(value)}" for number, value in enumerate(values)]
    else:
        raise invalid_type(argument, expected="a list of arrays, or a dict of them by name", received=weights)
    arrays = []
    for name, value in zip(names, values):
        if not isinstance(value, (np.ndarray, np.generic)):
            raise invalid_type(f"{argument}: {name}", expected="a NumPy array", received=value)
        array = np.asarray(value, order="C")
        arrays.append(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))
    return names, arrays


def _check_same(
    old_names: Sequence[str], old: Sequence[np.ndarray], names: Sequence[str], new: Sequence[np.ndarray]
) -> None:
    fix = "Pass the weights of one model, before and after training."
    if len(old) != len(new):
        raise invalid_value("after", expected=f"{len(old)} weights, as before", received=len(new), fix=fix)
    for old_name, name, a, b in zip(old_names, names, old, new):
        if a.shape != b.shape or a.dtype != b.dtype or (old_name != name):
            expected = f"{old_name} as {a.dtype.name} of shape {a.shape}, as before"
            raise invalid_value(name, expected=expected, received=f"{b.dtype.name} of shape {b.shape}", fix=fix)


def _names_checksum(weights: Weights) -> int:
    names = list(weights) if isinstance(weights, Mapping) else []
    return zlib.crc32("\n".join(map(str, names)).encode())


def _deflated(body: bytes) -> bytes:
    """Coded by how often each byte occurs, as strings of them hardly ever repeat; runs only where most are zero."""
    zeros = len(body) - np.count_nonzero(np.frombuffer(body, np.uint8))
    strategy = zlib.Z_RLE if zeros > _MOST_ZERO * len(body) else zlib.Z_HUFFMAN_ONLY
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15, 9, strategy)
    return deflate.compress(body) + deflate.flush()


def _opened(
    update: bytes, before: Weights, names: Sequence[str], arrays: Sequence[np.ndarray]
) -> tuple[bytes, bytes]:
    """The streams, and the noise, of an update that is whole, of this version and for a model of as many weights."""
    if len(update) < _HEADER.size or update[: len(_MAGIC)] != _MAGIC:
        raise damaged("update", f"{len(update)} bytes of something else")
    _, version, deflated, count, names_checksum, checksum = _HEADER.unpack_from(update)
    if version != VERSION:
        older = "the sender's" if version < VERSION else "the receiver's"
        fix = f"Update {older} tfgreen."
        raise invalid_value("update", expected=f"version {VERSION} of the format", received=version, fix=fix)
    most = 64 + sum(map(most_bytes, arrays))
    if len(update) > _HEADER.size + most + most // 64:
        expected = f"at most {most} bytes for these {len(arrays)} weights"
        largest = names[int(np.argmax([array.nbytes for array in arrays]))] if arrays else "none"
        fix = f"Client and server must have the same model (the largest weight of this one is {largest})."
        raise invalid_value("update", expected=expected, received=len(update), fix=fix)
    body = update[_HEADER.size :]
    if zlib.crc32(body, zlib.crc32(update[: _HEADER.size - _CHECKSUM])) != checksum:
        raise damaged("update", "bytes whose checksum is another than it says")
    if count != len(arrays) or names_checksum != _names_checksum(before):
        which = f"{count} weights" if count != len(arrays) else "weights of other names"
        fix = "Client and server must have the same model."
        raise invalid_value("update", expected=f"{len(arrays)} weights, as before", received=which, fix=fix)
    if not deflated:
        return body, b""
    inflate = zlib.decompressobj(-15)
    try:
        body = inflate.decompress(body, most)
    except zlib.error as error:
        raise damaged("update", f"bytes that are not deflated ({error})") from error
    if not inflate.eof:
        raise damaged("update", "more, or fewer, bytes than its weights take")
    return body, inflate.unused_data
