from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.deploy import cases
from tfgreen.deploy.tflite import contents
from tfgreen.deploy.tflite.contents import TensorInfo
from tfgreen.deploy.tflite.flatbuffer import parse
from tfgreen.deploy.tflite.writing import write
from tfgreen.errors import InvalidValueError


@pytest.mark.parametrize("mode, found", [("float32",) * 2, ("float16",) * 2, ("int8",) * 2, ("int8-io", "int8")])
def test_quantization_is_judged_by_what_the_file_holds(mode, found):
    assert contents.quantization_of(cases.artifact("concat", mode).parsed) == found


def test_operators_are_counted_most_frequent_first_and_float_ones_named():
    model = cases.artifact("residual", "float32").parsed
    counts = contents.count_operators(model)
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert sum(counts.values()) == len(model.subgraphs[0].operators)
    assert contents.float_operators(model) == sorted(counts)
    assert contents.float_operators(cases.artifact("residual", "int8").parsed) == []


def test_edges_have_the_names_of_the_signature_in_the_files_order():
    lite = cases.artifact("multi_io", "int8")
    for side in ("inputs", "outputs"):
        found = contents.edge_tensors(lite.parsed, side)
        assert [info.index for info in found] == [int(i) for i in getattr(lite.parsed.subgraphs[0], side)]
    assert {info.name for info in contents.edge_tensors(lite.parsed, "outputs")} == {"label", "size"}
    lite.parsed.signatureDefs, before = None, lite.parsed.signatureDefs
    try:
        names = {info.name for info in contents.edge_tensors(lite.parsed, "outputs")}
        assert names == {"label", "size"}  # of the tensors themselves
    finally:
        lite.parsed.signatureDefs = before


@pytest.mark.parametrize("mode", ["int8", "int8-io"])
def test_the_scale_of_an_output_is_that_of_its_last_integer_tensor(mode):
    lite = cases.artifact("functional", mode)
    (output,) = contents.edge_tensors(lite.parsed, "outputs")
    assert contents.output_scale(lite.parsed, output.index) == 1 / 256
    lite = cases.artifact("functional", "float32")
    (output,) = contents.edge_tensors(lite.parsed, "outputs")
    assert contents.output_scale(lite.parsed, output.index) is None


def test_real_values_go_in_and_out_as_the_tensor_stores_them():
    int8 = TensorInfo("x", (1, 2), "int8", 0.5, 3, index=0)
    stored = int8.to_stored(np.array([-1.0, 99.0]))
    assert stored.dtype == np.int8 and stored.tolist() == [1, 127] and int8.to_real(stored).tolist() == [-1.0, 62.0]
    tokens = TensorInfo("tokens", (1, 2), "int32", None, None, index=0)
    assert tokens.to_stored(np.array([1.0, 2.0])).dtype == np.int32
    for bad in ([0.5, 1.0], [np.nan, 1.0]):
        with pytest.raises(InvalidValueError, match="tensor 'tokens': expected whole numbers"):
            tokens.to_stored(np.array(bad))


def foreign(state: str = "int16") -> schema.ModelT:
    """An 8-bit LSTM as other tools write it: its cell state is a variable of 16 bits."""
    types = {"int8": schema.TensorType.INT8, "int16": schema.TensorType.INT16, "float32": schema.TensorType.FLOAT32}

    def tensor(name, dtype, variable=False):
        quantization = schema.QuantizationParametersT(scale=np.float32([0.1]), zeroPoint=np.int64([0]))
        shape = np.int32([1, 4])
        return schema.TensorT(shape, types[dtype], 0, name.encode(), quantization, isVariable=variable)

    tensors = [tensor("x", "int8"), tensor("cell", state, True), tensor("y", "int8"), tensor("gate", state)]
    code = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
    lstm = schema.OperatorT(0, np.int32([0, 1]), np.int32([2]), intermediates=np.int32([3]))
    graph = schema.SubGraphT(tensors, np.int32([0]), np.int32([2]), [lstm], b"main")
    model = schema.ModelT(3, [schema.OperatorCodeT(code, builtinCode=code)], [graph], b"", [schema.BufferT()])
    return parse(write(model), "foreign")


def test_the_16_bit_state_of_an_8_bit_lstm_does_not_make_the_file_int16x8():
    assert contents.quantization_of(foreign()) == "int8"
    model = foreign()
    for tensor in (model.subgraphs[0].tensors[i] for i in (0, 2)):
        tensor.type = schema.TensorType.INT16
    assert contents.quantization_of(model) == "int16x8"


def test_a_file_of_several_signatures_says_which_one_runs():
    model = foreign()
    assert contents.signature_notes(model) == []
    graph = model.subgraphs[0]
    model.subgraphs.append(graph)
    model.signatureDefs = [schema.SignatureDefT([], [], name, k) for k, name in enumerate([b"infer", b"train"])]
    (note,) = contents.signature_notes(parse(write(model), "foreign"))
    assert "['infer'], not ['train']" in note


def test_a_float_input_that_is_only_rounded_tells_its_range():
    lite, floats = cases.artifact("sequential", "int8"), cases.artifact("sequential", "float32")
    held = contents.quantized_input(lite.parsed, lite.inputs[0])
    assert (held.name, held.dtype) == (lite.inputs[0].name, "int8")
    assert held.scale == cases.artifact("sequential", "int8-io").inputs[0].scale
    assert contents.quantized_input(floats.parsed, floats.inputs[0]) == floats.inputs[0]
