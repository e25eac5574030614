"""Sparse tensors: there and back, as LiteRT itself unpacks them, as TensorFlow writes them, and damaged ones."""

from __future__ import annotations

import copy

import hypothesis.strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings

import tfgreen as tg
from tfgreen.deploy.tflite.flatbuffer import parse
from tfgreen.deploy.tflite.interpreter import invoke, new_interpreter
from tfgreen.deploy.tflite.sparse_encoding import decode_sparse, encode_sparse, index_bytes, sparse_problem
from tfgreen.deploy.tflite.writing import write
from tfgreen.errors import FileError

SMALL = st.lists(st.integers(1, 9), min_size=1, max_size=4)
SHAPES = SMALL | st.sampled_from([[3, 300], [300, 3], [70000, 2], [2, 3, 257]])


@st.composite
def pruned(draw):
    """Arrays with single zeros, empty rows, empty columns, none and nothing but zeros, some of them -0.0."""
    shape, rng = draw(SHAPES), np.random.default_rng(draw(st.integers(0, 99)))
    values = rng.normal(size=shape).astype(draw(st.sampled_from(["float32", "float16", "int8"])))
    values[rng.random(shape) < draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))] = draw(st.sampled_from([0.0, -0.0]))
    axis = draw(st.integers(0, len(shape) - 1))
    np.moveaxis(values, axis, 0)[: draw(st.integers(0, shape[axis]))] = 0
    return values


@settings(max_examples=150, deadline=None)
@given(pruned())
def test_what_is_encoded_is_decoded_in_the_smallest_index_types(values):
    data, sparsity = encode_sparse(values)
    assert sparse_problem(sparsity, values.shape, len(data)) == ""
    np.testing.assert_array_equal(decode_sparse(data, sparsity, values.shape), values)
    assert len(data) == max(np.count_nonzero(values), 1)
    level = sparsity.dimMetadata[-1]
    for vector, largest in ((level.arrayIndices, level.denseSize), (level.arraySegments, len(data))):
        assert vector.values.itemsize == (1 if largest < 256 else 2 if largest < 65536 else 4)
    assert index_bytes(sparsity) == level.arrayIndices.values.nbytes + level.arraySegments.values.nbytes


@settings(max_examples=30, deadline=None)
@given(pruned().filter(lambda values: values.size < 1000))
def test_litert_unpacks_the_same(values):
    got = unpacked(values.astype(np.float32) if values.dtype == np.int8 else values)
    np.testing.assert_array_equal(got, values)


def unpacked(values):
    """What a file of one DENSIFY returns; XNNPACK takes none that has nothing else."""
    data, sparsity = encode_sparse(values)
    kind = schema.TensorType.FLOAT32 if values.dtype == np.float32 else schema.TensorType.FLOAT16
    shape = np.array(values.shape, np.int32)
    sparse = schema.TensorT(shape=shape, type=kind, buffer=1, name=b"sparse", sparsity=sparsity)
    dense = schema.TensorT(shape=shape, type=kind, buffer=0, name=b"dense")
    ends = np.array([0], np.int32), np.array([1], np.int32)
    operator = schema.OperatorT(0, *ends, schema.BuiltinOptions.DensifyOptions, schema.DensifyOptionsT())
    graph = schema.SubGraphT([sparse, dense], np.zeros(0, np.int32), np.array([1], np.int32), [operator], b"main")
    densify = schema.BuiltinOperator.DENSIFY
    codes = [schema.OperatorCodeT(densify, builtinCode=densify, version=1)]
    buffers = [schema.BufferT(), schema.BufferT(data.view(np.uint8))]
    content = write(schema.ModelT(3, codes, [graph], b"", buffers))
    interpreter = new_interpreter(content, threads=1, keep_tensors=True)
    invoke(interpreter)
    return interpreter.get_tensor(1)


def test_blocks_and_several_sparse_levels_are_read():
    """The schema's own example: a 4x4 matrix in blocks of 2x2, of which the sparse rows hold two."""
    level, vector = schema.DimensionMetadataT, schema.Uint8VectorT
    rows = level(schema.DimensionType.DENSE, 2)
    columns = level(
        schema.DimensionType.SPARSE_CSR, 0, schema.SparseIndexVector.Uint8Vector, vector(np.array([0, 1, 2], np.uint8)),
        schema.SparseIndexVector.Uint8Vector, vector(np.array([1, 0], np.uint8)),
    )
    block = level(schema.DimensionType.DENSE, 2)
    sparsity = schema.SparsityParametersT([0, 1, 2, 3], [0, 1], [rows, columns, block, block])
    expected = np.zeros((4, 4))
    expected[:2, 2:], expected[2:, :2] = [[1, 2], [3, 4]], [[5, 6], [7, 8]]
    assert sparse_problem(sparsity, (4, 4), 8) == ""
    np.testing.assert_array_equal(decode_sparse(np.arange(1.0, 9.0), sparsity, (4, 4)), expected)


@pytest.fixture(scope="module")
def tensorflows(tmp_path_factory):
    """A pruned model, and the sparse files of TensorFlow's own converter."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((9, 9, 8))
    x = keras.layers.Conv2D(24, 3, activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(40, name="fc")(keras.layers.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(0)
    for kernel in (model.get_layer("conv").kernel, model.get_layer("fc").kernel):
        kernel.assign(np.where(rng.random(kernel.shape) < 0.9, 0, kernel))
    folder = tmp_path_factory.mktemp("sparse")
    model.export(folder, verbose=False)
    files = {}
    for name, types in (("float32", []), ("float16", [tf.float16])):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        converter.optimizations += [tf.lite.Optimize.DEFAULT] if types else []
        converter.target_spec.supported_types = types
        files[name] = tg.deploy.litert_model.LiteRTModel(converter.convert())
    return model, files


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_sparse_files_of_tensorflow_are_read(tensorflows, dtype):
    model, files = tensorflows
    lite, item = files[dtype], np.dtype(dtype).itemsize
    kernels = [model.get_layer(name).kernel.numpy() for name in ("conv", "fc")]
    by_size = sorted(lite.weights.values(), key=lambda weight: -weight.values.size)
    for weight, kernel in zip(by_size, sorted(kernels, key=lambda kernel: -kernel.size), strict=True):
        expected = np.moveaxis(kernel, -1, 0).astype(dtype)
        np.testing.assert_array_equal(weight.values, expected)
        assert np.count_nonzero(expected) * item < weight.stored_bytes < 0.5 * expected.nbytes
    assert lite.sparsity == pytest.approx(sum((k == 0).sum() for k in kernels) / sum(k.size for k in kernels))
    assert lite.quantization == dtype and lite.coded_bytes <= lite.size_bytes
    assert lite.nonzero_bytes == item * sum(np.count_nonzero(kernel.astype(dtype)) for kernel in kernels)
    assert {row.operator for row in lite.audit.operators if row.in_float} == {"CONV_2D", "MEAN", "FULLY_CONNECTED"}
    rows = {row.operator: row for row in tg.profile_operators(lite, runs=2).operators}
    assert rows["CONV_2D"].median_us and "constant weights" in rows["DENSIFY"].reason


def test_a_damaged_encoding_is_a_file_error(tensorflows):
    good = tensorflows[1]["float32"].parsed

    def broken(change):
        file = copy.deepcopy(good)
        change(next(t for t in file.subgraphs[0].tensors if t.sparsity is not None).sparsity)
        return write(file)

    def replaced(level, name, change):
        vector = getattr(level, name)
        vector.values = change(np.array(vector.values))

    assert parse(broken(lambda sparsity: None), "file")
    last = (lambda sparsity: sparsity.dimMetadata[-1])
    for change, message in (
        (lambda s: replaced(last(s), "arrayIndices", lambda v: np.where(v == v[0], 255, v).astype(v.dtype)), "beyond"),
        (lambda s: replaced(last(s), "arraySegments", lambda v: v[:-1]), "segments"),
        (lambda s: replaced(last(s), "arraySegments", lambda v: v[::-1].copy()), "segments"),
        (lambda s: setattr(s, "traversalOrder", np.array([0, 0, 1, 2], np.int32)), "traversal order"),
        (lambda s: setattr(s.dimMetadata[0], "denseSize", 7), "7 instead of"),
        (lambda s: s.dimMetadata.pop(), "dimensions"),
    ):
        with pytest.raises(FileError, match=f"sparse encoding of tensor.*{message}"):
            parse(broken(change), "file")
