from __future__ import annotations

import functools

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests.deploy import cases
from tests.zoo import ZOO
from tfgreen.deploy.inspection.check_target import Finding, check_target
from tfgreen.deploy.inspection.target_tables import TARGETS
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.cut_operator import cut_operator, reason_not_to_cut
from tfgreen.errors import InvalidTypeError, InvalidValueError

CUSTOM = {"CIRCULAR_BUFFER", "TFLite_Detection_PostProcess"}


def _dense(*layers: keras.Layer, shape: tuple = (32,)) -> keras.Model:
    x = inputs = keras.Input(shape, name="x")
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


@functools.cache
def _dynamic_range() -> LiteRTModel:
    lite = tg.convert(_dense(keras.layers.Dense(64, name="wide")), tg.ConvertConfig(quantization="dynamic"))
    assert lite.quantization == "dynamic"
    return lite


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_tables_name_operators_and_dtypes_that_exist(target):
    from ai_edge_litert import schema_py_generated as schema

    assert all(hasattr(schema.BuiltinOperator, name) for name in {*target.kernels, *target.hybrid} - CUSTOM)
    assert all(hasattr(schema.TensorType, dtype.upper()) for dtype in target.dtypes.union(*target.kernels.values()))
    assert target.hybrid <= set(target.kernels)
    for name, made in target.kernels.items():
        assert made and (made <= target.dtypes or name == "QUANTIZE")


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_xnnpack_takes_what_the_table_says(name, mode):
    lite = cases.artifact(name, mode)
    for index, operator in enumerate(lite.parsed.subgraphs[0].operators):
        if reason_not_to_cut(lite.parsed, operator, lite.content):
            continue
        if name == "lstm" and lite.audit.operators[index].operator == "STRIDED_SLICE":
            continue  # with a shrunk axis: one of the options that the tables leave out
        alone = LiteRTModel(cut_operator(lite.parsed, index, lite.content, {})[0])
        taken = any(node["op_name"] == "DELEGATE" for node in alone.new_interpreter()._get_ops_details())
        assert taken == (check_target(alone, "xnnpack") == []), lite.audit.operators[index]


@pytest.mark.parametrize("target", ["tflm", "edgetpu", "nnapi"])
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"lstm", "attention"}))
def test_convolutional_and_dense_models_fit_in_int8(name, target):
    assert check_target(cases.artifact(name, "int8-io"), target) == []
    if target != "edgetpu":
        assert check_target(cases.artifact(name, "float32"), target) == []


def test_what_is_fatal_where_nothing_else_can_run_it_is_not_where_the_cpu_can():
    lite = cases.artifact("attention", "int8")
    fatal = [finding for finding in check_target(lite, "tflm") if "GELU" in str(finding)]
    dense = next(row.layers[-1] for row in lite.audit.operators if row.operator == "GELU")
    assert fatal == [
        Finding(
            True,
            f"GELU (layer '{dense}'): LiteRT for Microcontrollers lacks it; nothing else can run it there. "
            "Use another activation, such as relu or hard_silu.",
        )
    ]
    assert [str(f) for f in check_target(lite, "nnapi") if not f.fatal and "GELU" in str(f)] == [
        f"GELU (layer '{dense}'): NNAPI lacks it; the CPU runs it, and each change of processor costs time. "
        "Use another activation, such as relu or hard_silu."
    ]
    assert not any(finding.fatal for target in ("xnnpack", "edgetpu") for finding in check_target(lite, target))


def test_a_kernel_that_lacks_the_dtype_is_told_from_one_that_is_not_there():
    lite = cases.artifact("concat", "int8")
    assert (
        "AVERAGE_POOL_2D (layer 'average_pooling2d'): XNNPACK computes it in float32, not in int8; LiteRT's own kernel "
        "runs it, on the same CPU. ConvertConfig(keep_float=...) lets its layer compute in float32."
    ) in [str(finding) for finding in check_target(lite, "xnnpack")]
    square = _dense(keras.layers.Lambda(keras.ops.square, name="square"), keras.layers.Lambda(keras.ops.exp, name="e"))
    config = tg.ConvertConfig(quantization="int8", calibration_data=np.random.default_rng(0).random((8, 32)))
    assert [str(finding) for finding in check_target(tg.convert(square), "tflm")] == []
    assert [str(f).split(";")[0] for f in check_target(tg.convert(square, config), "tflm")] == [
        "EXP (layer 'e'): LiteRT for Microcontrollers computes it in float32, not in int8"
    ]


def test_a_loop_needs_dynamic_sizes_which_microcontrollers_lack():
    lite = cases.artifact("lstm", "float32")
    (finding,) = check_target(lite, "tflm")
    assert finding.fatal and "needs every size fixed, so the file cannot run there" in finding.text
    assert finding.text.endswith("Give recurrent layers unroll=True and a fixed number of steps.")
    loops = [str(f) for f in check_target(lite, "nnapi")]
    assert loops[0].startswith("WHILE (layer 'lstm' and 1 more): NNAPI lacks it; the CPU runs it")
    assert not any("while/" in text for text in loops)  # what the loop runs goes with it


def test_an_open_input_shape_is_fatal_only_where_sizes_must_be_fixed():
    lite = tg.convert(_dense(keras.layers.Conv1D(3, 2, padding="same"), shape=(None, 4)))
    assert not any("dynamic size" in str(finding) for finding in check_target(lite, "xnnpack"))
    for target, fatal in (("tflm", True), ("nnapi", False)):
        finding = next(f for f in check_target(lite, target) if "dynamic size" in f.text)
        assert finding.fatal == fatal and finding.text.startswith("Tensors of a dynamic size ('x' and ")
        assert finding.text.endswith("Give every keras.Input a full shape and convert again.")


def test_dynamic_range_is_refused_by_microcontrollers_only():
    (finding,) = check_target(_dynamic_range(), "tflm")
    assert finding == Finding(
        True,
        "FULLY_CONNECTED (layer 'wide'): LiteRT for Microcontrollers does not combine float inputs with int8 weights "
        "(dynamic range); nothing else can run it there. Convert with quantization='int8' or 'float32'.",
    )
    assert check_target(_dynamic_range(), "xnnpack") == check_target(_dynamic_range(), "nnapi") == []


def test_float16_weights_are_no_problem_but_on_microcontrollers():
    lite = cases.artifact("concat", "float16")
    assert check_target(lite, "xnnpack") == []
    (finding,) = check_target(lite, "tflm")
    assert finding.fatal and "has no float16 tensors" in finding.text
    assert finding.text.endswith("Convert with quantization='float32' or 'int8'.")


def test_the_edge_tpu_takes_int8_and_leaves_float_edges_to_the_cpu():
    for mode in ("float32", "float16"):
        assert [str(finding) for finding in check_target(cases.artifact("concat", mode), "edgetpu")] == [
            f"The file is {mode}: the compiler of the Edge TPU takes int8 only. Convert with quantization='int8'."
        ]
    assert check_target(_dynamic_range(), "edgetpu")[0].fatal
    assert check_target(cases.artifact("multi_io", "int8"), "edgetpu") == [
        Finding(
            False,
            "Float32 inputs ('image' and 1 more): the CPU quantizes them before the Edge TPU runs. "
            "Convert with input_dtype='int8'.",
        ),
        Finding(
            False,
            "Float32 outputs ('label' and 1 more): the CPU turns them into float32 after the Edge TPU runs. "
            "Convert with output_dtype='int8'.",
        ),
    ]


def test_bad_input_is_refused():
    with pytest.raises(InvalidTypeError, match="lite: expected a LiteRTModel, received bytes"):
        check_target(b"TFL3", "tflm")
    with pytest.raises(InvalidValueError, match=r"target: expected one of \['edgetpu', .*received 'tpu'"):
        check_target(cases.artifact("functional", "float32"), "tpu")
