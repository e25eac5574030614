"""TeacherCache: what a teacher returns for each sample, computed once and kept in one file.

The file holds one record per sample, then a description in JSON, its length, a checksum and a mark. The description is
last, so half a file has none.
"""

from __future__ import annotations

import json
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from keras import ops

from tfgreen.checks import check_instance, check_integer, check_option
from tfgreen.errors import FileError, invalid_value
from tfgreen.files import atomic_file, reading
from tfgreen.typing import FilePath, PlainDict, Tensor

_MARK = b"tfgreen records\n"
_END = struct.Struct("<QI16s")  # length of the description, checksum of all before this, mark

Fields = dict[str, tuple[str, tuple[int, ...]]]  # field -> dtype, shape of one sample


@keras.saving.register_keras_serializable(package="tfgreen")
class TeacherCache:
    """Teacher outputs on disk, for the ``cache`` of a ``tg.Distiller``: the teacher runs once, not in every epoch.

    ``fit`` looks the file up by the teachers' weights, the data, which it hashes, and the outputs and layers compared.
    Where the file is missing it runs the teacher over the data first, which costs what it saves in the first epoch;
    where the file is of something else, damaged or incomplete it warns and makes it anew.

    Each sample's values travel with it, so arrays may be shuffled and split; a ``tf.data`` pipeline attaches them by
    ``Distiller.with_teacher``, before it shuffles and augments. Validation data has no cache.

    Args:
        path: The file; its folder must exist.
        dtype: ``"float16"``, ``"float32"``, or ``"int8"`` (1 byte for each value and 4 for each sample). Logits of a
            softmax are kept less a constant, so that float16 spends its precision on the largest.
        top_k: Keep only the largest ``k`` logits of a softmax, and one number for the mean probability of the others.

    Raises:
        TypeError, ValueError: An argument is of another type or out of range.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> def network(): return keras.Sequential([keras.Input((8,)), keras.layers.Dense(10, activation="softmax")])
        >>> cache = tg.TeacherCache("teacher.cache")
        >>> distiller = tg.Distiller(network(), network(), tg.LogitsDistillation(), cache=cache)
        >>> distiller.compile("adam", "sparse_categorical_crossentropy")
        >>> history = distiller.fit(np.ones((100, 8)), np.zeros(100), epochs=2, verbose=0)
        >>> Path("teacher.cache").stat().st_size / 100 < 24  # bytes a sample, the description included
        True
    """

    def __init__(
        self, path: FilePath, *, dtype: Literal["float16", "float32", "int8"] = "float16", top_k: int | None = None
    ) -> None:
        check_instance("path", path, (str, os.PathLike), "the path of a file")
        check_option("dtype", dtype, ("float16", "float32", "int8"))
        check_integer("top_k", top_k, minimum=1, optional=True)
        if top_k is not None and dtype == "int8":
            raise invalid_value("top_k", expected="dtype='float16' or 'float32'", received="dtype='int8'")
        self.path = Path(path)
        self.dtype = dtype
        self.top_k = top_k

    def get_config(self) -> PlainDict:
        return {"path": str(self.path), "dtype": self.dtype, "top_k": self.top_k}

    @classmethod
    def from_config(cls, config: PlainDict) -> TeacherCache:
        return cls(**config)

    def fields(self, shape: tuple[int, ...], softmax: bool) -> Fields:
        """What is kept of values of this shape per sample; ``softmax`` where they are logits of one."""
        if softmax and self.top_k is not None:
            if self.top_k >= shape[-1]:
                expected = f"fewer than the {shape[-1]} classes"
                raise invalid_value("top_k", expected=expected, received=self.top_k)
            kept = (*shape[:-1], self.top_k)
            indices = "uint8" if shape[-1] <= 256 else "uint16" if shape[-1] <= 65536 else "int32"
            return {"values": (self.dtype, kept), "indices": (indices, kept), "rest": (self.dtype, shape[:-1])}
        if self.dtype == "int8":
            return {"values": ("int8", shape), "scale": ("float32", ())}
        return {"values": (self.dtype, shape)}

    def encode(self, values: np.ndarray, softmax: bool) -> dict[str, np.ndarray]:
        """A teacher's values, ``(samples, *shape)``, as the arrays of :meth:`fields`, not yet of their dtypes."""
        values = np.asarray(values, "float32")
        if not np.isfinite(values).all():
            raise invalid_value("teacher", expected="finite outputs", received="NaN or infinite ones")
        if softmax:  # adding a constant to all logits changes nothing
            values = values - values.max(axis=-1, keepdims=True)
        if softmax and self.top_k is not None:
            order = np.argsort(-values, axis=-1, kind="stable")
            indices, others = order[..., : self.top_k], order[..., self.top_k :]
            rest = np.exp(np.take_along_axis(values, others, -1).astype("float64")).mean(axis=-1)
            largest = self._rounded(np.take_along_axis(values, indices, -1))
            return {"values": largest, "indices": indices, "rest": self._rounded(np.log(np.maximum(rest, 1e-300)))}
        if self.dtype != "int8":
            return {"values": self._rounded(values)}
        if softmax:  # around 0, for the symmetric range
            values = values - values.min(axis=-1, keepdims=True) / 2
        scale = np.abs(values).max(axis=tuple(range(1, values.ndim))) / 127
        scale = np.where(scale > 0, scale, 1).astype("float32")
        return {"values": np.rint(values / scale.reshape(-1, *(1,) * (values.ndim - 1))), "scale": scale}

    def decode(self, kept: Mapping[str, Tensor], classes: int) -> Tensor:
        """The values again, as a float32 tensor, from a batch of each field."""
        values = ops.cast(kept["values"], "float32")
        if "indices" in kept:
            rest = ops.cast(kept["rest"], "float32")[..., None]
            places = ops.one_hot(ops.cast(kept["indices"], "int32"), classes, dtype="float32")
            return rest + ops.sum(places * (values - rest)[..., None], axis=-2)
        if "scale" in kept:
            return values * ops.reshape(kept["scale"], (-1, *(1,) * (len(values.shape) - 1)))
        return values

    def open(self, key: PlainDict) -> np.ndarray | None:
        """The records of the file, memory-mapped, if it holds what ``key`` describes; else None, with a warning why."""
        if not self.path.exists():
            return None
        with reading(self.path):
            content = np.memmap(self.path, "uint8", "r") if self.path.stat().st_size else np.empty(0, "uint8")
        description, reason = _describe(content)
        wanted = json.loads(json.dumps(key))
        if not reason and description["key"] != wanted:
            changed = [name for name, value in wanted.items() if description["key"].get(name) != value]
            reason = f"is of other {' and '.join(changed)}"
        if reason:
            warnings.warn(f"The teacher cache {self.path} {reason}; it is made anew.", stacklevel=2)
            return None
        record = _record(description["fields"])
        return content[: description["count"] * record.itemsize].view(record)

    def write(
        self, key: PlainDict, count: int, fields: Fields, batches: Iterable[Mapping[str, np.ndarray]]
    ) -> np.ndarray:
        """Write the file, whole or not at all, and open it: records of ``count`` samples, which come in batches."""
        record, done, checksum = _record(fields), 0, 0
        description = json.dumps({"key": key, "count": count, "fields": fields}).encode()
        with atomic_file(self.path) as file:
            for batch in batches:
                records = np.empty(len(next(iter(batch.values()))), record)
                for name, values in batch.items():
                    records[name] = values
                file.write(records.data)
                checksum = zlib.crc32(records.data, checksum)
                done += len(records)
            if done != count:
                raise invalid_value("dataset", expected=f"{count} samples, as when it was read before", received=done)
            file.write(description + _END.pack(len(description), zlib.crc32(description, checksum), _MARK))
        opened = self.open(key)
        if opened is None:
            raise FileError(f"{self.path}: cannot be read back.")
        return opened

    def _rounded(self, values: np.ndarray) -> np.ndarray:
        if self.dtype == "float16" and np.abs(values).max() > 65504:
            fix, received = "Use TeacherCache(dtype='float32').", f"{np.abs(values).max():g}"
            raise invalid_value("teacher", expected="outputs in float16's range, to 65504", received=received, fix=fix)
        return values.astype(self.dtype)


def _record(fields: Fields) -> np.dtype:
    return np.dtype([(name, dtype, tuple(shape)) for name, (dtype, shape) in fields.items()])


def _describe(content: np.ndarray) -> tuple[PlainDict, str]:
    """The description at the end of a file's bytes, and what is wrong with them."""
    whole, end = content[: -_END.size], content[-_END.size :]
    if len(end) < _END.size:
        return {}, "is incomplete"
    length, checksum, mark = _END.unpack(end.data)
    if mark != _MARK or length > len(whole):
        return {}, "is incomplete or no teacher cache"
    if checksum != zlib.crc32(whole.data):
        return {}, "is damaged"
    return json.loads(whole[len(whole) - length :].tobytes()), ""
