"""The writer of .tflite files."""

from __future__ import annotations

import numpy as np

from tests.deploy import cases
from tests.zoo import sample
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.flatbuffer import parse, write


def test_equal_vectors_are_stored_once_and_nothing_else_changes():
    lite, x = cases.artifact("separable", "int8"), sample("separable", 8)
    file = parse(lite.content, "file")
    quantizations = [tensor.quantization for tensor in file.subgraphs[0].tensors]
    points = sum(q.zeroPoint.nbytes for q in quantizations if q is not None and q.zeroPoint is not None)
    for quantization in quantizations:  # no two alike, so that none can be shared
        if quantization is not None and quantization.zeroPoint is not None:
            quantization.zeroPoint = np.arange(len(quantization.zeroPoint)) + id(quantization)
    apart = write(file, len(lite.content))
    assert len(apart) - lite.size_bytes > points / 2
    again = write(parse(lite.content, "file"), len(lite.content))
    for one, other in zip(parse(again, "again").subgraphs[0].tensors, lite.parsed.subgraphs[0].tensors):
        assert (one.name, list(one.shape), one.buffer) == (other.name, list(other.shape), other.buffer)
        if other.quantization is not None and other.quantization.scale is not None:
            np.testing.assert_array_equal(one.quantization.scale, other.quantization.scale)
            np.testing.assert_array_equal(one.quantization.zeroPoint, other.quantization.zeroPoint)
    np.testing.assert_array_equal(LiteRTModel(again).predict(x), lite.predict(x))
