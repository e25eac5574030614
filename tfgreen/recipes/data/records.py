"""Data from TFRecord files of ``tf.train.Example``, with a schema; they are parsed when they are needed."""

from __future__ import annotations

import dataclasses
import difflib
import glob
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from tfgreen.checks import check_instance, check_integer, check_option
from tfgreen.errors import FileError, invalid_value
from tfgreen.files import reading
from tfgreen.recipes.data.example_proto import Feature, read_features, read_records
from tfgreen.recipes.data.parts import Parts, check_file, naming
from tfgreen.recipes.data.split import Split
from tfgreen.typing import FilePath, PlainDict

if TYPE_CHECKING:
    import tensorflow as tf

Files: TypeAlias = Union[FilePath, Sequence[FilePath]]

_SIDES = ("inputs", "targets", "sample_weight")
_STARTS = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG"}
_BUFFER = 10_000  # records that shuffling holds


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """A feature as the model takes it, and how a record holds it.

    ``encoding`` is "raw" for the bytes of an array, "jpeg" or "png" for an image, None for numbers.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    encoding: str | None = None

    @property
    def stored(self) -> str:
        """The kind of values in the record: bytes, integers or floats."""
        if self.encoding is not None or self.dtype == "string":
            return "bytes"
        return "floats" if np.dtype(self.dtype).kind == "f" else "integers"

    @property
    def count(self) -> int:
        """How many values the record holds."""
        return 1 if self.encoding is not None else math.prod(self.shape)

    def check(self, found: Feature | None, there: Mapping[str, Feature]) -> None:
        """Raise unless a record's feature is what the schema says."""
        subject = f"feature '{self.name}'"
        if found is None:
            near = difflib.get_close_matches(self.name, there, 1)
            fix = f"Did you mean '{near[0]}'?" if near else ""
            raise invalid_value(subject, expected=f"one of {sorted(there)}", received="no such feature", fix=fix)
        if (found.kind, found.values) != (self.stored, self.count):
            expected = f"{self.count} {self.stored} (dtype {self.dtype}, shape {list(self.shape)})"
            raise invalid_value(subject, expected=expected, received=f"{found.values} {found.kind}")
        if self.encoding == "raw":
            size = math.prod(self.shape) * np.dtype(self.dtype).itemsize
            if found.size != size:
                expected = f"{size} bytes ({self.dtype}, shape {list(self.shape)})"
                raise invalid_value(subject, expected=expected, received=f"{found.size} bytes")
        elif self.encoding is not None and not found.start.startswith(_STARTS[self.encoding]):
            raise invalid_value(subject, expected=f"an image as {self.encoding}", received="other bytes")

    def parse(self, value: Any) -> Any:
        """The tensor of a parsed feature."""
        import tensorflow as tf

        if self.encoding == "raw":
            value = tf.io.decode_raw(value, self.dtype)
        elif self.encoding is not None:
            value = tf.io.decode_image(value, channels=self.shape[-1], expand_animations=False)
            # An image of another size must not be reshaped.
            return tf.cast(tf.ensure_shape(value, self.shape), self.dtype)
        return tf.reshape(value if self.dtype == "string" else tf.cast(value, self.dtype), self.shape)


class Schema:
    """The features of a record: which are inputs, which targets, and how each is stored."""

    def __init__(self, plain: PlainDict, source: str) -> None:
        with naming(source):
            check_instance("schema", plain, dict, "a dict with 'inputs' and 'targets'")
            for key in plain:
                check_option("schema, key", key, _SIDES)
            self.sides = {side: _specs(side, plain[side]) for side in _SIDES if plain.get(side)}
            if "inputs" not in self.sides:
                raise invalid_value("schema", expected="'inputs' with one feature or more", received=sorted(plain))
            if len(self.sides.get("sample_weight", [])) > 1:
                raise invalid_value("schema, sample_weight", expected="one feature", received="several")
            self.specs = [spec for specs in self.sides.values() for spec in specs]

    @classmethod
    def read(cls, schema: PlainDict | FilePath) -> Schema:
        """The schema of a dict, or of a JSON file that holds one."""
        if isinstance(schema, Mapping):
            return cls(dict(schema), "schema")
        file = check_file(schema, "a schema, a JSON file")
        with reading(file):
            text = file.read_bytes()
        try:
            return cls(json.loads(text), os.fspath(schema))
        except ValueError as error:
            if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
                raise FileError(f"{file}: expected a schema in JSON, received something else ({error}).") from error
            raise

    def parse(self, record: Any) -> Any:
        """The sample of a serialized record: ``(x, y)``, ``(x, y, sample_weight)`` or ``x``."""
        import tensorflow as tf

        dtypes = {"bytes": "string", "integers": "int64", "floats": "float32"}
        wanted = {
            spec.name: tf.io.FixedLenFeature([spec.count] if spec.count != 1 else [], dtypes[spec.stored])
            for spec in self.specs
        }
        found = tf.io.parse_single_example(record, wanted)
        parts = []
        for side, specs in self.sides.items():
            values = {spec.name: spec.parse(found[spec.name]) for spec in specs}
            parts.append(values if len(values) > 1 else values[specs[0].name])
        return tuple(parts) if len(parts) > 1 else parts[0]

    def check(self, record: bytes) -> int | None:
        """Raise unless a record is as the schema says; its class, where it has one integer as its only target."""
        try:
            features = read_features(record)
        except (ValueError, KeyError) as error:
            raise invalid_value("content", expected="a tf.train.Example", received="something else") from error
        for spec in self.specs:
            spec.check(features.get(spec.name), features)
        targets = self.sides.get("targets", [])
        is_class = len(targets) == 1 and (targets[0].stored, targets[0].count) == ("integers", 1)
        return features[targets[0].name].number if is_class else None


@dataclasses.dataclass(frozen=True, eq=False)
class RecordListing:
    """Records by their numbers over all files."""

    files: tuple[str, ...]
    schema: Schema
    rows: np.ndarray
    total: int
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labelled(self) -> bool:
        """Whether the schema has targets."""
        return "targets" in self.schema.sides

    def pick(self, rows: np.ndarray) -> RecordListing:
        """The records of these numbers, always in the order of the files."""
        rows = np.sort(rows)
        labels = None if self.labels is None else self.labels[rows]
        return dataclasses.replace(self, rows=self.rows[rows], labels=labels)

    def batches(self, batch_size: int, shuffle: bool) -> tf.data.Dataset:
        """Batches of parsed records; those that are not picked are read past, not parsed."""
        import tensorflow as tf

        records = tf.data.TFRecordDataset(list(self.files))
        if len(self.rows) < self.total:
            picked = np.zeros(self.total, bool)
            picked[self.rows] = True
            flags = tf.data.Dataset.from_tensor_slices(picked)
            records = tf.data.Dataset.zip(records, flags).filter(lambda _, flag: flag).map(lambda record, _: record)
        records = records.apply(tf.data.experimental.assert_cardinality(len(self.rows)))
        if shuffle:
            records = records.shuffle(min(len(self.rows), _BUFFER))
        return records.map(self.schema.parse, tf.data.AUTOTUNE).batch(batch_size).prefetch(tf.data.AUTOTUNE)

    def contents(self) -> Iterator[tuple[str, str | None]]:
        """The files, which of their records are meant, and how they are read."""
        yield str(self.schema.sides), None
        yield f"records {hashlib.sha256(self.rows.astype('<i8').tobytes()).hexdigest()}", None
        for file in self.files:
            yield "file", file


def read_tfrecord(files: Mapping[str, Files | None], schema: PlainDict | FilePath | None) -> Parts:
    """The splits of files, each record checked against the schema, see :meth:`tg.Data.from_tfrecord`."""
    found = {name: _paths(given) for name, given in files.items() if given is not None}
    read = Schema.read(Path(found["train"][0]).with_name("schema.json") if schema is None else schema)
    splits, source = dict[str, Split](), ""
    for name, paths in found.items():
        if paths:
            labels = [label for path in paths for label in _labels(path, read)]
            classes = None if None in labels else np.array(labels)
            listing = RecordListing(tuple(paths), read, np.arange(len(labels)), len(labels), classes)
            place = Path(paths[0]).name + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
            source = source or place
            splits[name] = Split(listing, name=name, source=place)
    return Parts(splits, source, "Pass its files as {name}.")


def _labels(path: str, schema: Schema) -> list[int | None]:
    labels = []
    for number, record in enumerate(read_records(path), 1):
        with naming(f"{path}: record {number}"):
            labels.append(schema.check(record))
    return labels


def _paths(given: Files) -> list[str]:
    """The files of a path, of a pattern with ``*``, or of a list of paths."""
    if isinstance(given, (str, os.PathLike)):
        text = os.fspath(given)
        found = sorted(glob.glob(text)) if "*" in text and not os.path.exists(text) else [text]
        if not found:
            raise FileError(f"{text}: expected TFRecord files, but there are no such files.")
        given = found
    if not isinstance(given, (list, tuple)) or not given:
        raise invalid_value("files", expected="a path, a pattern or a list of paths", received=repr(given))
    return [os.fspath(check_file(path, "a TFRecord file")) for path in given]


def _specs(side: str, plain: Any) -> list[FeatureSpec]:
    check_instance(f"schema, {side}", plain, dict, "a dict of features by name")
    return [_spec(f"schema, {side}/{name}", name, given) for name, given in plain.items()]


def _spec(subject: str, name: str, given: Any) -> FeatureSpec:
    check_instance(subject, given, dict, "a dict with 'dtype', and 'shape' and 'encoding' where needed")
    for key in given:
        check_option(f"{subject}, key", key, ("dtype", "shape", "encoding"))
    numbers = [np.dtype(kind + bits).name for kind, widths in (("f", "248"), ("i", "1248"), ("u", "1248"), ("b", "1"))
               for bits in widths]  # fmt: skip
    check_option(f"{subject}, dtype", given.get("dtype"), [*numbers, "string"])
    encoding = given.get("encoding")
    check_option(f"{subject}, encoding", encoding, (None, "raw", *_STARTS))
    shape = given.get("shape", ())
    check_instance(f"{subject}, shape", shape, (list, tuple), "a list of sizes")
    for size in shape:
        check_integer(f"{subject}, shape", size, minimum=1)
    if encoding in _STARTS and (len(shape) != 3 or shape[-1] not in (1, 3, 4)):
        expected = "[height, width, channels] with 1, 3 or 4 channels"
        raise invalid_value(f"{subject}, shape", expected=expected, received=list(shape))
    if encoding == "raw" and given["dtype"] in ("string", "bool"):
        raise invalid_value(f"{subject}, dtype", expected="a number, as encoding is raw", received=given["dtype"])
    return FeatureSpec(name, given["dtype"], tuple(shape), encoding)
