"""The writer of .tflite files."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.deploy import cases
from tests.zoo import sample
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.flatbuffer import (
    buffer_bytes,
    constant,
    dtype_name,
    is_shared,
    name_edges,
    operator_name,
    parse,
    read_metadata,
    set_constant,
    set_metadata,
)
from tfgreen.deploy.tflite.writing import write
from tfgreen.errors import FileError


def test_equal_vectors_are_stored_once_and_nothing_else_changes():
    lite, x = cases.artifact("separable", "int8"), sample("separable", 8)
    file = parse(lite.content, "file")
    quantizations = [tensor.quantization for tensor in file.subgraphs[0].tensors]
    points = sum(q.zeroPoint.nbytes for q in quantizations if q is not None and q.zeroPoint is not None)
    for quantization in quantizations:  # no two alike, so that none can be shared
        if quantization is not None and quantization.zeroPoint is not None:
            quantization.zeroPoint = np.arange(len(quantization.zeroPoint)) + id(quantization)
    unshared = write(file)
    assert len(unshared) - lite.size_bytes > points / 2
    again = write(parse(lite.content, "file"))
    for one, other in zip(parse(again, "again").subgraphs[0].tensors, lite.parsed.subgraphs[0].tensors):
        assert (one.name, list(one.shape), one.buffer) == (other.name, list(other.shape), other.buffer)
        if other.quantization is not None and other.quantization.scale is not None:
            np.testing.assert_array_equal(one.quantization.scale, other.quantization.scale)
            np.testing.assert_array_equal(one.quantization.zeroPoint, other.quantization.zeroPoint)
    np.testing.assert_array_equal(LiteRTModel(again).predict(x), lite.predict(x))


def file_of(tensors: list[schema.TensorT], buffers: list, code: int = schema.BuiltinOperator.ABS, custom=None):
    """A model of one operator from the first tensor to the last; a buffer is None or an array."""
    data = [None if b is None else np.asarray(b).view(np.uint8) for b in buffers]
    operator = schema.OperatorT(0, np.int32([0]), np.int32([len(tensors) - 1]))
    graph = schema.SubGraphT(tensors, np.int32([0]), np.int32([len(tensors) - 1]), [operator], b"main")
    codes = [schema.OperatorCodeT(min(code, 127), custom, 1, code)]
    return schema.ModelT(3, codes, [graph], b"test", [schema.BufferT(d) for d in data])


def tensor(shape, dtype=schema.TensorType.FLOAT32, buffer=0, name=b"t"):
    return schema.TensorT(np.int32(shape), dtype, buffer, name)


def test_constants_come_back_whatever_their_type():
    integers = [f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)]
    for name in (*integers, "FLOAT16", "FLOAT32", "FLOAT64", "BOOL"):
        number, values = getattr(schema.TensorType, name), np.arange(6).reshape(2, 3).astype(name.lower())
        model = parse(write(file_of([tensor([2, 3], number, 1)], [None, values.ravel()])), "file")
        (found,) = model.subgraphs[0].tensors
        assert dtype_name(found) == name.lower()
        np.testing.assert_array_equal(constant(model, found), values)
        assert constant(model, found).dtype == values.dtype


def test_data_behind_the_flatbuffer_is_read_into_the_model():
    """Files above 2 GB keep the data of a buffer behind the rest and say where."""
    values = np.float32([1.5, -2.0])
    model = file_of([tensor([2], buffer=1)], [None, None])
    model.buffers[1].offset, model.buffers[1].size = 1 << 20, values.nbytes
    content = write(model)
    content += bytes((1 << 20) - len(content)) + values.tobytes()
    found = parse(content, "file")
    np.testing.assert_array_equal(constant(found, found.subgraphs[0].tensors[0]), values)
    again = parse(write(found), "again")
    np.testing.assert_array_equal(constant(again, again.subgraphs[0].tensors[0]), values)
    with pytest.raises(FileError, match="truncated or damaged"):
        parse(content[:-1], "file")


def test_a_changed_constant_leaves_those_of_the_same_bytes_alone():
    tensors = [tensor([2], buffer=1, name=b"a"), tensor([2], buffer=1, name=b"b")]
    model = file_of(tensors, [None, np.float32([1, 2])])
    graph = model.subgraphs[0]
    assert is_shared(graph, tensors[0])
    set_constant(model, graph, tensors[0], np.float32([3, 4]))
    assert constant(model, tensors[0]).tolist() == [3, 4] and constant(model, tensors[1]).tolist() == [1, 2]
    assert not is_shared(graph, tensors[0]) and len(buffer_bytes(model, tensors[0])) == 8


@pytest.mark.parametrize(
    "code, custom, name",
    [(schema.BuiltinOperator.CONV_2D, None, "CONV_2D"), (32, b"FlexErf", "FlexErf"), (9999, None, "CODE_9999")],
)
def test_operators_are_named_also_custom_ones_and_unknown_ones(code, custom, name):
    model = file_of([tensor([1])], [None], code, custom)
    assert operator_name(model, model.subgraphs[0].operators[0]) == name


def test_metadata_comes_back_and_damage_in_it_is_an_error():
    model = file_of([tensor([1])], [None])
    assert read_metadata(model) == {}
    set_metadata(model, {"notes": ["größer"], "layers": [["a"]]})
    found = parse(write(model), "file")
    assert read_metadata(found) == {"notes": ["größer"], "layers": [["a"]]}
    found.buffers[-1].data = np.frombuffer(b"{", np.uint8)
    with pytest.raises(FileError, match="metadata"):
        read_metadata(found)


def test_edges_get_their_names_in_the_order_of_the_model():
    tensors = [tensor([1], name=name) for name in (b"x", b"y", b"z")]
    model = file_of(tensors, [None])
    graph, maps = model.subgraphs[0], [schema.TensorMapT(b"input_1", 0), schema.TensorMapT(b"input_0", 1)]
    graph.inputs = np.int32([0, 1])
    model.signatureDefs = [schema.SignatureDefT(maps, [schema.TensorMapT(b"output_0", 2)], b"serve", 0)]
    name_edges(model, ["left", "right"], "sum")
    assert [t.name for t in tensors] == [b"right", b"left", b"sum"] and graph.inputs.tolist() == [1, 0]
    assert [entry.name for entry in model.signatureDefs[0].inputs] == [b"left", b"right"]
