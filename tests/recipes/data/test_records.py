from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfgreen as tg
from tfgreen.errors import TfgreenError

SCHEMA = {
    "inputs": {"picture": {"dtype": "float32", "shape": [4, 4, 3], "encoding": "png"}, "size": {"dtype": "float32"}},
    "targets": {"kind": {"dtype": "int64"}, "mask": {"dtype": "uint8", "shape": [4, 4], "encoding": "raw"}},
    "sample_weight": {"weight": {"dtype": "float32"}},
}
KIND = {"inputs": {"size": {"dtype": "float32"}}, "targets": {"kind": {"dtype": "int32", "shape": [1]}}}


def feature(value):
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(value)))


def record(number, **changed):
    picture = tf.io.encode_png(np.full((4, 4, 3), number, "uint8")).numpy()
    mask = np.full((4, 4), number, "uint8").tobytes()
    values = {"picture": picture, "size": number / 2, "kind": number % 2, "mask": mask, "weight": 1.0, **changed}
    features = {name: feature(value) for name, value in values.items() if value is not None}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(path, *records):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in records:
            writer.write(content)
    return path


@pytest.fixture
def files(tmp_path):
    for part in range(2):
        write(tmp_path / f"train-{part}.tfrecord", *(record(5 * part + i) for i in range(5)))
    write(tmp_path / "test.tfrecord", record(50), record(51))
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    return tmp_path


def test_records_become_what_the_schema_says(files):
    data = tg.Data.from_tfrecord(str(files / "train-*.tfrecord"), test=files / "test.tfrecord", validation_share=0.2)
    assert [split.count for split in data.splits.values()] == [8, 2, 2]
    assert data.train.source.startswith("train-0.tfrecord and 1 more")
    x, y, weight = next(iter(data.test.x))
    assert x["picture"].shape == (2, 4, 4, 3) and x["picture"].dtype == "float32"
    assert x["size"].numpy().tolist() == [25, 25.5]
    assert y["mask"].dtype == "uint8" and y["mask"].numpy()[:, 0, 0].tolist() == [50, 51]
    assert y["kind"].dtype == "int64" and weight.numpy().tolist() == [1, 1]
    seen = [2 * value for split in (data.train, data.validation) for value in split.samples(99)["size"]]
    assert sorted(seen) == list(range(10)) and int(data.train.x.cardinality()) == 1


def test_one_input_and_one_class_are_arrays_drawn_by_class(files):
    paths = [files / "train-0.tfrecord", files / "train-1.tfrecord"]
    data = tg.Data.from_tfrecord(paths, KIND, validation_share=0.4)
    assert "by class" in data.validation.source
    x, y = next(iter(data.validation.x))
    assert x.shape == (4,) and y.shape == (4, 1) and y.dtype == "int32" and sorted(y.numpy()[:, 0]) == [0, 0, 1, 1]
    shuffled = data.train.fit_arguments(batch_size=4)["x"]
    assert sum(len(x) for x, _ in shuffled) == 6
    schema = {"inputs": {"mask": {"dtype": "string"}}}
    texts = tg.Data.from_tfrecord(files / "test.tfrecord", schema, validation_share=0).train
    assert texts.samples(1).dtype == object and not texts.has_targets


def of(name, **how):
    """A schema with one input."""
    return {**KIND, "inputs": {name: how}}


GRAY = {"dtype": "uint8", "shape": [4, 4, 1], "encoding": "png"}
BAD = {
    "no feature": (of("sise", dtype="float32"), {}, "record 1: feature 'sise': .* Did you mean 'size'"),
    "of another kind": (of("size", dtype="int64"), {}, "record 1: feature 'size': expected 1 integers"),
    "of another length": (of("size", dtype="float32", shape=[2]), {}, "expected 2 floats .* received 1"),
    "missing in one": (KIND, {"kind": None}, "record 2: feature 'kind': expected one of .* received no such feature"),
    "raw size": (of("mask", dtype="float32", shape=[4, 4], encoding="raw"), {}, "64 bytes .* 16 bytes"),
    "no image": (of("mask", **GRAY), {}, "feature 'mask': expected an image as png"),
    "no inputs": ({"targets": KIND["targets"]}, {}, "schema: schema: expected 'inputs'"),
    "unknown side": ({**KIND, "target": {}}, {}, "schema, key: expected 'inputs', 'targets' or 'sample_weight'"),
    "no dtype": (of("size"), {}, "schema, inputs/size, dtype: expected 'float16'"),
    "encoding": (of("size", dtype="uint8", encoding="gif"), {}, "inputs/size, encoding: expected None"),
    "shape": (of("size", dtype="uint8", shape=[0]), {}, "inputs/size, shape: expected an integer >= 1"),
    "image shape": (of("size", dtype="uint8", encoding="png"), {}, "with 1, 3 or 4 channels"),
    "key": (of("size", dtype="uint8", shap=[1]), {}, "inputs/size, key: expected 'dtype', 'shape'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named_with_file_record_and_feature(case, tmp_path):
    schema, values, message = BAD[case]
    path = write(tmp_path / "some.tfrecord", record(0), record(1, **values))
    with pytest.raises(TfgreenError, match=message) as caught:
        tg.Data.from_tfrecord(path, schema)
    assert "\n" not in str(caught.value)
    assert "some.tfrecord: record" in str(caught.value) or "schema" in str(caught.value)


def test_files_that_are_wrong_are_named(files):
    with pytest.raises(TfgreenError, match="none.tfrecord: expected a TFRecord file, but there is no such file"):
        tg.Data.from_tfrecord(files / "none.tfrecord", KIND)
    with pytest.raises(TfgreenError, match="there are no such files"):
        tg.Data.from_tfrecord(f"{files}/none-*.tfrecord", KIND)
    with pytest.raises(TfgreenError, match="record 1: content: expected a tf.train.Example, received something else"):
        tg.Data.from_tfrecord(write(files / "other.tfrecord", b"some text"), KIND)
    (files / "schema.json").write_text("{")
    with pytest.raises(TfgreenError, match="schema.json: expected a schema in JSON"):
        tg.Data.from_tfrecord(files / "test.tfrecord")
    (files / "schema.json").unlink()
    with pytest.raises(TfgreenError, match="schema.json: expected a schema, a JSON file, but there is no such file"):
        tg.Data.from_tfrecord(files / "test.tfrecord")


def test_records_are_checked_without_tensorflow(files):
    code = (
        "import sys, tfgreen as tg; tg.Data.load(sys.argv[1], test_share=0.1).test\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, f"{files}/train-*.tfrecord"]
    subprocess.run(command, check=True, capture_output=True, text=True)
