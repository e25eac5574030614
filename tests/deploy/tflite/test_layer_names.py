from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfgreen.deploy.tflite.layer_names import layers_of_operators, rename_tensors

CONV, QUANTIZE, DEQUANTIZE = (getattr(schema.BuiltinOperator, name) for name in ("CONV_2D", "QUANTIZE", "DEQUANTIZE"))


def model_of(names: list[bytes], operators: list[tuple[int, list[int], list[int]]], outputs: list[int]):
    codes = [schema.OperatorCodeT(code, builtinCode=code) for code, _, _ in operators]
    ops = [schema.OperatorT(k, np.int32(i), np.int32(o)) for k, (_, i, o) in enumerate(operators)]
    tensors = [schema.TensorT(name=name) for name in names]
    return schema.ModelT(3, codes, [schema.SubGraphT(tensors, np.int32([0]), np.int32(outputs), ops)], buffers=[])


def test_a_fused_operator_computes_its_layers_in_the_order_of_their_calls():
    names = [b"x", b"net/relu_1/call.2/Relu;net/norm_1/call.1/mul_1;net/conv_1/call.0/convolution", b"add_4/call.3/add"]
    model = model_of(names, [(CONV, [0], [1]), (CONV, [1, -1], [2])], [2])
    calls = ["conv", "norm", "relu", "block/add"]
    assert layers_of_operators(model, calls, [3]) == [["conv", "norm", "relu"], ["block/add"]]


def test_an_output_without_a_scope_belongs_to_its_call_also_before_a_conversion():
    names = [b"x", b"x_int8", b"y_int8", b"StatefulPartitionedCall:0"]
    model = model_of(names, [(QUANTIZE, [0], [1]), (CONV, [1], [2]), (DEQUANTIZE, [2], [3])], [3])
    assert layers_of_operators(model, ["dense", "out"], [1]) == [[], ["out"], []]
    assert layers_of_operators(model, ["dense", "out"], [None]) == [[], [], []]


def test_nested_scopes_count_from_the_innermost_call():
    model = model_of([b"x", b"outer/call.0/dense_1/call.1/MatMul"], [(CONV, [0], [1])], [1])
    assert layers_of_operators(model, ["outer", "outer/dense"], [None]) == [["outer/dense"]]


def test_tensors_are_named_after_the_paths_of_their_layers_and_stay_different():
    fused = b"relu_1/call.1/Relu;dense_1/call.0/MatMul"
    names = [b"x", fused, b"relu_1/call.1/Relu;dense_1/call.0/Add", b"dense_1/call.0/kernel", b"dense_1/call.0/"]
    model = model_of(names, [(CONV, [0], [1])], [1])
    rename_tensors(model, ["block/dense", "block/relu"])
    found = [tensor.name for tensor in model.subgraphs[0].tensors]
    assert found == [
        b"x",
        b"block/relu/Relu;block/dense/MatMul",
        b"block/relu/Relu;block/dense/Add",
        b"block/dense/kernel",
        b"block/dense",
    ]


def test_names_do_not_list_all_that_the_converter_found_equal():
    same = ";".join(f"rnn_1/call.0/unstack{step}" for step in range(100)).encode()
    model = model_of([b"x", *(same + str(k).encode() for k in range(3)), b"a;b", b"a;c"], [(CONV, [0], [1])], [1])
    rename_tensors(model, ["rnn"])
    found = [tensor.name for tensor in model.subgraphs[0].tensors]
    assert found[4:] == [b"a;b", b"a;c"]
    assert len(set(found)) == len(found) and all(name.startswith(b"rnn/unstack0;") for name in found[1:4])
    assert max(map(len, found)) < 20


def test_a_layer_in_a_wrapper_of_its_name_is_named_once():
    names = [b"x", b"dense_1/call.1/dense_2/MatMul", b"dense_1/call.1/dense", b"dense_1/call.1/dense_cell_1/add"]
    model = model_of(names, [(CONV, [0], [1])], [1])
    rename_tensors(model, ["block", "block/dense"])
    found = [tensor.name for tensor in model.subgraphs[0].tensors]
    assert found == [b"x", b"block/dense/MatMul", b"block/dense", b"block/dense/dense_cell_1/add"]
