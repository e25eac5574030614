"""CachedTeacher: teacher outputs from a file, put beside the inputs so that they travel with their samples."""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from tfgreen.distillation.adapters import Adapter
from tfgreen.distillation.teacher_cache import Fields, TeacherCache
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.paths import walk
from tfgreen.typing import Samples, Tensor, Tensors

Rows: TypeAlias = Mapping[str, Tensor]

# An input with teacher outputs is a dictionary of these two.
INPUTS, ROWS = "tfgreen_inputs", "tfgreen_teacher"

_BATCH = 128  # samples that the teacher runs on at a time
_FIX = (
    "Pass arrays to fit, or give a tf.data pipeline its teacher outputs with distiller.with_teacher(dataset) before it "
    "shuffles and augments."
)


def split_rows(x: Tensors) -> tuple[Tensors, Rows | None]:
    """The inputs, and the teacher outputs beside them or None."""
    return (x[INPUTS], x[ROWS]) if isinstance(x, dict) and set(x) == {INPUTS, ROWS} else (x, None)


class CachedTeacher:
    """Teachers whose requested tensors are computed for all samples at once and stored in a :class:`TeacherCache`.

    Raises:
        ValueError: A requested tensor has no fixed shape.
    """

    def __init__(self, cache: TeacherCache, teachers: Sequence[Adapter]) -> None:
        self._cache = cache
        self._teachers = teachers
        self._fields: dict[tuple[int, str], Fields] = {}
        for index, teacher in enumerate(teachers):
            for key, shape in teacher.shapes.items():
                fixed = tuple(size for size in shape if size is not None)
                if len(fixed) < len(shape):
                    expected = "outputs of a fixed shape, for the cache"
                    raise invalid_value(f"{key} of {teacher.subject}", expected=expected, received=f"shape {shape}")
                self._fields[index, key] = cache.fields(fixed[1:], key in teacher.softmax_logits)
        self._run = tf.function(lambda x: [teacher.run(x) for teacher in teachers], reduce_retracing=True)

    def attach_to_fit(self, x: Samples | None, student: keras.Model) -> Samples:
        """Put the teacher outputs beside the arrays that ``fit`` was given.

        Raises:
            TypeError: ``x`` is neither arrays nor a dataset that has them.
        """
        if isinstance(x, tf.data.Dataset):
            spec = x.element_spec
            if split_rows(spec[0] if isinstance(spec, tuple) else spec)[1] is not None:
                return x
        leaves = keras.tree.flatten(x)
        if not leaves or not all(isinstance(leaf, (np.ndarray, tf.Tensor)) for leaf in leaves):
            raise invalid_type(
                "x, with a teacher cache", expected="arrays, whose samples can be told apart", received=x, fix=_FIX
            )
        random = [path for path, layer in walk(student) if type(layer).__name__.startswith("Rand")]
        if random:
            warnings.warn(
                f"The student augments its inputs at random ({', '.join(random)}). The cached teacher outputs are "
                "those of the data as it is passed to fit, and so are those of a teacher without a cache.",
                stacklevel=3,
            )
        arrays = [np.asarray(leaf) for leaf in leaves]
        count = len(arrays[0])

        def batches() -> Iterator[list[np.ndarray]]:
            for start in range(0, count, _BATCH):
                yield [array[start : start + _BATCH] for array in arrays]

        fingerprint = _Fingerprint()
        for batch in batches():
            fingerprint.add(batch)
        return {INPUTS: x, ROWS: self._rows(x, fingerprint, batches())}

    def attach_to_dataset(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """See ``Distiller.with_teacher``."""
        if not isinstance(dataset, tf.data.Dataset):
            raise invalid_type("dataset", expected="a tf.data.Dataset", received=dataset, fix="Pass arrays to fit.")
        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            fix = "Call repeat() afterwards."
            raise invalid_value("dataset", expected="a finite one", received="an infinite one", fix=fix)
        fingerprint = _Fingerprint()
        structure = None
        for batch in dataset:
            structure = keras.utils.unpack_x_y_sample_weight(batch)[0]
            fingerprint.add(_arrays(structure))
        if not fingerprint.count:
            raise invalid_value("dataset", expected="at least one batch", received="none")

        def batches() -> Iterator[list[np.ndarray]]:
            for index, batch in enumerate(dataset):
                arrays = _arrays(keras.utils.unpack_x_y_sample_weight(batch)[0])
                fingerprint.check(index, arrays)
                yield arrays

        rows = self._rows(structure, fingerprint, batches())
        names = sorted(rows)

        def look_up(index: int, *arrays: np.ndarray) -> list[np.ndarray]:
            start, stop = fingerprint.check(index, list(arrays))
            return [np.asarray(rows[name][start:stop]) for name in names]

        def attach(index: Tensor, batch: Tensors) -> Tensors:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            found = tf.numpy_function(
                look_up, [index, *keras.tree.flatten(x)], [tf.as_dtype(rows[name].dtype) for name in names]
            )
            for name, tensor in zip(names, found):
                tensor.set_shape((None, *rows[name].shape[1:]))
            x = {INPUTS: x, ROWS: dict(zip(names, found))}
            return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

        numbers = tf.data.Dataset.range(len(fingerprint.stops))
        return tf.data.Dataset.zip(numbers, dataset).map(attach)

    def decode(self, rows: Rows) -> list[dict[str, Tensor]]:
        """What each teacher's ``run`` would have returned for a batch."""
        tensors: list[dict[str, Tensor]] = [{} for _ in self._teachers]
        for (index, key), fields in self._fields.items():
            kept = {field: rows[_row_name(index, key, field)] for field in fields}
            tensors[index][key] = self._cache.decode(kept, self._teachers[index].shapes[key][-1] or 0)
        return tensors

    def _rows(
        self, structure: Samples | None, fingerprint: _Fingerprint, batches: Iterator[list[np.ndarray]]
    ) -> dict[str, np.memmap]:
        """The arrays of the file, which is made if need be."""
        fields = {
            _row_name(index, key, field): spec
            for (index, key), specs in self._fields.items()
            for field, spec in specs.items()
        }
        key = {
            "teachers": [teacher.fingerprint() for teacher in self._teachers],
            "data": fingerprint.digest(),
            "outputs and layers": fields,
        }

        def encoded() -> Iterator[dict[str, np.ndarray]]:
            for arrays in batches:
                tensors = self._run(keras.tree.pack_sequence_as(structure, [tf.convert_to_tensor(a) for a in arrays]))
                batch = {}
                for index, name in self._fields:
                    softmax = name in self._teachers[index].softmax_logits
                    kept = self._cache.encode(tensors[index][name].numpy(), softmax)
                    batch.update({_row_name(index, name, field): values for field, values in kept.items()})
                yield batch

        found = self._cache.open(key)
        return found if found is not None else self._cache.write(key, fingerprint.count, fields, encoded())


class _Fingerprint:
    """A hash of all inputs, whatever the batches, and a checksum and the extent of each batch."""

    def __init__(self) -> None:
        self._hashes: dict[str, Any] = {}
        self._checksums: list[int] = []
        self.stops: list[int] = []

    @property
    def count(self) -> int:
        return self.stops[-1] if self.stops else 0

    def add(self, arrays: list[np.ndarray]) -> None:
        """Count in the next batch."""
        for index, array in enumerate(arrays):
            name = f"{index} {array.dtype} {array.shape[1:]}"
            self._hashes.setdefault(name, hashlib.blake2b(digest_size=16)).update(np.ascontiguousarray(array).tobytes())
        self._checksums.append(_checksum(arrays))
        self.stops.append(self.count + len(arrays[0]))

    def check(self, index: int, arrays: list[np.ndarray]) -> tuple[int, int]:
        """The first and last sample of a batch, if it is what it was.

        Raises:
            ValueError: It is not.
        """
        if index >= len(self.stops) or _checksum(arrays) != self._checksums[index]:
            raise invalid_value(
                f"batch {index} of the dataset",
                expected="the samples that it yielded before",
                received="others",
                fix="Shuffle and augment after with_teacher, not before.",
            )
        return (self.stops[index - 1] if index else 0), self.stops[index]

    def digest(self) -> str:
        hashes = [f"{name} {value.hexdigest()}" for name, value in self._hashes.items()]
        return ", ".join([f"{self.count} samples", *hashes])


def _row_name(index: int, key: str, field: str) -> str:
    return f"{index}/{key}/{field}"


def _arrays(x: Tensors) -> list[np.ndarray]:
    return [leaf.numpy() for leaf in keras.tree.flatten(x)]


def _checksum(arrays: list[np.ndarray]) -> int:
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
    return checksum
