from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.errors import FileError
from tfgreen.recipes.data.example_proto import Feature, read_features, read_records

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(INT64, max_size=4), st.lists(st.floats(width=32), max_size=4), st.lists(st.binary(), max_size=3))
def test_features_are_what_tensorflow_writes(integers, floats, words):
    features = {
        "i": tf.train.Feature(int64_list=tf.train.Int64List(value=integers)),
        "f": tf.train.Feature(float_list=tf.train.FloatList(value=floats)),
        "b": tf.train.Feature(bytes_list=tf.train.BytesList(value=words)),
        "none": tf.train.Feature(),
    }
    content = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
    first = words[0] if words else b""
    assert read_features(content) == {
        "i": Feature("integers", len(integers), number=integers[0] if integers else 0),
        "f": Feature("floats", len(floats)),
        "b": Feature("bytes", len(words), start=first[:8], size=len(first)),
    }


@given(st.binary(min_size=1, max_size=60))
def test_other_bytes_raise_a_value_error_or_mean_something(content):
    try:
        read_features(content)
    except (ValueError, KeyError):
        pass


def test_records_are_those_of_tensorflow(tmp_path):
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in (0, 3, 1000):
            writer.write(bytes(size))
    assert [len(record) for record in read_records(path)] == [0, 3, 1000]
    whole = path.read_bytes()
    for content, message in (
        (whole[:-1], "but it ends within record 3"),
        (whole[:20], "but it ends within record 2"),
        (b"", "received an empty file"),
        (np.arange(100, dtype="uint8").tobytes(), "received something else"),
        (b"\x1f\x8b" + whole, "received a compressed one. Unpack it with gunzip"),
    ):
        path.write_bytes(content)
        with pytest.raises(FileError, match=f"a.tfrecord: expected a TFRecord file, {message}"):
            list(read_records(path))
