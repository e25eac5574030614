"""CachedTeacher: teacher outputs from a file, put beside the inputs so that they travel with their samples."""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfgreen.distillation.adapters import Adapter
from tfgreen.distillation.teacher_cache import Fields, TeacherCache
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.model.paths import walk
from tfgreen.typing import Samples, Tensor, Tensors

INPUTS, ROWS = "tfgreen_inputs", "tfgreen_teacher"  # an input with teacher outputs is a dictionary of these two
_BATCH = 128  # samples that the teacher runs on at a time


def split_rows(x: Tensors) -> tuple[Tensors, Mapping[str, Tensor] | None]:
    """The inputs, and the teacher outputs beside them or None."""
    return (x[INPUTS], x[ROWS]) if isinstance(x, dict) and set(x) == {INPUTS, ROWS} else (x, None)


class CachedTeacher:
    """Teachers whose requested tensors are computed for all samples at once and stored in a :class:`TeacherCache`."""

    def __init__(self, cache: TeacherCache, teachers: Sequence[Adapter]) -> None:
        self._cache = cache
        self._teachers = teachers
        self._fields: Fields = {}
        self._names: dict[tuple[int, str], dict[str, str]] = {}  # teacher, key -> field -> its name among all fields
        for index, teacher in enumerate(teachers):
            for key, request in teacher.requests.items():
                fixed = tuple(size for size in request.shape[1:] if size is not None)
                if len(fixed) + 1 < len(request.shape):
                    expected, received = "outputs of a fixed shape, for the cache", f"shape {request.shape}"
                    raise invalid_value(f"{key} of {teacher.subject}", expected=expected, received=received)
                fields = cache.fields(fixed, request.softmax)
                names = self._names[index, key] = {field: f"{index}/{key}/{field}" for field in fields}
                self._fields.update({names[field]: spec for field, spec in fields.items()})
        self._run = tf.function(lambda x: [teacher.run(x) for teacher in teachers], reduce_retracing=True)

    def attach_to_fit(self, x: Samples | None, student: keras.Model) -> Samples:
        """Put the teacher outputs beside the arrays that ``fit`` was given; a dataset must have them already."""
        if isinstance(x, tf.data.Dataset) and split_rows(_inputs(x.element_spec))[1] is not None:
            return x
        leaves = keras.tree.flatten(x)
        if not leaves or not all(isinstance(leaf, (np.ndarray, tf.Tensor)) for leaf in leaves):
            raise invalid_type(
                "x, with a teacher cache",
                expected="arrays, whose samples can be told apart",
                received=x,
                fix="Pass arrays to fit, or give a tf.data pipeline its teacher outputs with "
                "distiller.with_teacher(dataset) before it shuffles and augments.",
            )
        random = [path for path, layer in walk(student) if type(layer).__name__.startswith("Rand")]
        if random:
            warnings.warn(
                f"The student augments its inputs at random ({', '.join(random)}). The cached teacher outputs are "
                "those of the data as it is passed to fit, and so are those of a teacher without a cache.",
                stacklevel=3,
            )
        arrays = [np.asarray(leaf) for leaf in leaves]
        starts = range(0, len(arrays[0]), _BATCH)
        batches = [[array[start : start + _BATCH] for array in arrays] for start in starts]
        return {INPUTS: x, ROWS: self._rows(x, _Fingerprint(batches), batches)}

    def attach_to_dataset(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """See ``Distiller.with_teacher``."""
        if not isinstance(dataset, tf.data.Dataset):
            raise invalid_type("dataset", expected="a tf.data.Dataset", received=dataset, fix="Pass arrays to fit.")
        if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            fix = "Call repeat() afterwards."
            raise invalid_value("dataset", expected="a finite one", received="an infinite one", fix=fix)
        fingerprint = _Fingerprint(map(_arrays, dataset))
        if not fingerprint.count:
            raise invalid_value("dataset", expected="at least one batch", received="none")

        def batches() -> Iterator[list[np.ndarray]]:
            for index, arrays in enumerate(map(_arrays, dataset)):
                fingerprint.check(index, arrays)
                yield arrays

        rows = self._rows(_inputs(dataset.element_spec), fingerprint, batches())

        def look_up(index: int, *arrays: np.ndarray) -> list[np.ndarray]:
            samples = fingerprint.check(index, arrays)
            return [np.asarray(values[samples]) for values in rows.values()]

        def attach(index: Tensor, batch: Tensors) -> Tensors:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            dtypes = [tf.as_dtype(values.dtype) for values in rows.values()]
            found = tf.numpy_function(look_up, [index, *keras.tree.flatten(x)], dtypes)
            for tensor, values in zip(found, rows.values()):
                tensor.set_shape((None, *values.shape[1:]))
            return keras.utils.pack_x_y_sample_weight({INPUTS: x, ROWS: dict(zip(rows, found))}, y, sample_weight)

        return tf.data.Dataset.zip(tf.data.Dataset.range(len(fingerprint.stops)), dataset).map(attach)

    def decode(self, rows: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """What each teacher's ``run`` would have returned for a batch."""
        tensors: list[dict[str, Tensor]] = [{} for _ in self._teachers]
        for (index, key), names in self._names.items():
            kept = {field: rows[name] for field, name in names.items()}
            tensors[index][key] = self._cache.decode(kept, self._teachers[index].requests[key].shape[-1] or 0)
        return tensors

    def _rows(
        self, structure: Samples, fingerprint: _Fingerprint, batches: Iterable[list[np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """The arrays of the file, which is written if need be."""
        content = {
            "teachers": [teacher.fingerprint() for teacher in self._teachers],
            "data": fingerprint.digest,
            "outputs and layers": self._fields,
        }

        def encoded() -> Iterator[dict[str, np.ndarray]]:
            for arrays in batches:
                tensors = self._run(keras.tree.pack_sequence_as(structure, [tf.convert_to_tensor(a) for a in arrays]))
                batch = {}
                for (index, key), names in self._names.items():
                    softmax = self._teachers[index].requests[key].softmax
                    kept = self._cache.encode(tensors[index][key].numpy(), softmax)
                    batch.update({names[field]: values for field, values in kept.items()})
                yield batch

        records = self._cache.open(content)
        if records is None:
            records = self._cache.write(content, fingerprint.count, self._fields, encoded())
        return {name: records[name] for name in self._fields}


class _Fingerprint:
    """A hash of all inputs, whatever the batches, and a checksum and the end of each batch."""

    def __init__(self, batches: Iterable[Sequence[np.ndarray]]) -> None:
        hashes: dict[str, hashlib.blake2b] = {}
        self.count = 0
        self.stops: list[int] = []
        self._checksums: list[int] = []
        for arrays in batches:
            for index, array in enumerate(arrays):
                name = f"{index} {array.dtype} {array.shape[1:]}"
                hashes.setdefault(name, hashlib.blake2b(digest_size=16)).update(array.tobytes())
            self.count += len(arrays[0])
            self.stops.append(self.count)
            self._checksums.append(_checksum(arrays))
        listed = [f"{name} {value.hexdigest()}" for name, value in hashes.items()]
        self.digest = ", ".join([f"{self.count} samples", *listed])

    def check(self, index: int, arrays: Sequence[np.ndarray]) -> slice:
        """The samples of a batch, if it is what it was."""
        if index >= len(self.stops) or _checksum(arrays) != self._checksums[index]:
            fix = "Shuffle and augment after with_teacher, not before."
            expected = "the samples that it yielded before"
            raise invalid_value(f"batch {index} of the dataset", expected=expected, received="others", fix=fix)
        return slice(self.stops[index - 1] if index else 0, self.stops[index])


def _inputs(batch: Tensors) -> Tensors:
    return keras.utils.unpack_x_y_sample_weight(batch)[0]


def _arrays(batch: Tensors) -> list[np.ndarray]:
    return [leaf.numpy() for leaf in keras.tree.flatten(_inputs(batch))]


def _checksum(arrays: Sequence[np.ndarray]) -> int:
    return zlib.crc32(b"".join(array.tobytes() for array in arrays))
