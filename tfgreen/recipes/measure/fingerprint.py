"""A hash that says which data a run was of."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfgreen.checks import check_instance
from tfgreen.errors import invalid_state
from tfgreen.files import reading
from tfgreen.recipes.data.checks import named_leaves
from tfgreen.recipes.data.split import Split
from tfgreen.recipes.data.splits import Splits
from tfgreen.structure import name_leaves

_CHUNK = 1 << 24  # bytes that are read at once
_BATCHES = 4  # of a dataset, that are read again
_BITS = 1 << 26  # to remember the samples of a dataset in


def fingerprint(data: Splits) -> str:
    """SHA-256, in hexadecimal, of the samples, targets and weights of all splits: the same in every process.

    Arrays are read by their bytes, and so are files, without decoding, wherever they lie and whatever they are called.
    A ``tf.data.Dataset`` is read by its samples, in whatever order they come. Memory stays flat.

    Raises:
        FileError: A file cannot be read.
        TypeError: ``data`` is something else.
        ValueError: A dataset gives other samples in each pass, as one that augments them at random does.

    Example:
        >>> import tfgreen as tg
        >>> x = np.arange(20.0)
        >>> one, same = (fingerprint(tg.Data.from_arrays(x.copy(), x > 9)) for _ in range(2))
        >>> x[7] += 1e-9
        >>> one == same, one == fingerprint(tg.Data.from_arrays(x, x > 9))
        (True, False)
    """
    check_instance("data", data, Splits, "a tg.Data")
    digest, files = hashlib.sha256(), dict[str, bytes]()
    for name, split in data.splits.items():
        _tell(digest, "split", name)
        if split.in_files:
            for label, path in split.file_contents():
                if path is not None and path not in files:
                    files[path] = _file_digest(path)
                _tell(digest, label, files[path].hex() if path is not None else "")
        elif split.in_batches:
            _tell(digest, "batches", _of_batches(split))
        else:
            for part, arrays in (("x", split.x), ("y", split.y), ("sample_weight", split.sample_weight)):
                _tell(digest, part, "" if arrays is None else name_leaves(arrays, lambda _, index: str(index))[0])
                for array in [] if arrays is None else named_leaves(arrays).values():
                    _tell(digest, array.dtype.str, array.shape)
                    for piece in _pieces(array):
                        digest.update(piece)
    return digest.hexdigest()


def _tell(digest: Any, *words: Any) -> None:
    """Add words, each with its length before it, so that none runs into the next."""
    for word in map(str, words):
        digest.update(f"{len(word)}:{word};".encode())


def _pieces(array: np.ndarray) -> Iterator[bytes]:
    rows = max(1, _CHUNK // max(1, array.nbytes // len(array)))
    return (array[start : start + rows].tobytes() for start in range(0, len(array), rows))


def _file_digest(path: str) -> bytes:
    digest = hashlib.sha256()
    with reading(path), open(path, "rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.digest()


def _of_batches(split: Split) -> str:
    """The sum of the hashes of a dataset's samples, with their number and that of the batches."""
    seen, total, samples, batches = np.zeros(_BITS // 8, "uint8"), 0, 0, 0
    for batch in split.x:
        for sample in _sample_hashes(batch):
            seen[sample % _BITS >> 3] |= 1 << (sample & 7)
            total, samples = (total + sample) % (1 << 256), samples + 1
        batches += 1
    again = [sample for batch in itertools.islice(split.x, _BATCHES) for sample in _sample_hashes(batch)]
    if bool(samples) != bool(again) or not all(seen[sample % _BITS >> 3] >> (sample & 7) & 1 for sample in again):
        sentence = f"The {split.name} split ({split.source}) gives other samples in each pass."
        raise invalid_state(sentence, "Leave random changes of the samples to the training, or pass arrays.")
    return f"{batches} {samples} {total:x}"


def _sample_hashes(batch: Any) -> Iterator[int]:
    structure, leaves = name_leaves(batch, lambda _, index: str(index))
    arrays = [np.asarray(leaf) for leaf in leaves]
    head = f"{structure} {[(array.dtype.str, array.shape[1:]) for array in arrays]}".encode()
    for row in range(len(arrays[0])):
        content = b"".join(_bytes(array[row]) for array in arrays)
        yield int.from_bytes(hashlib.sha256(head + content).digest(), "big")


def _bytes(value: Any) -> bytes:
    """The bytes of an array; those of texts, which TensorFlow gives as objects, one by one."""
    array = np.asarray(value)
    if array.dtype != object:
        return array.tobytes()
    return b"".join(b"%d:" % len(text) + text for text in (bytes(item) for item in array.reshape(-1)))
