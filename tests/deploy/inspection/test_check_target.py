from __future__ import annotations

import functools

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests.deploy import cases
from tests.zoo import ZOO
from tfgreen.deploy.inspection.check_target import check_target
from tfgreen.deploy.inspection.findings import Finding
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.tflite.cut_operator import cut_operator, reason_not_to_cut
from tfgreen.errors import InvalidTypeError, InvalidValueError


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


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("mode", ["float32", "int8"])
def test_xnnpack_takes_what_the_table_says(name, mode):
    lite = cases.artifact(name, mode)
    for index, operator in enumerate(lite.parsed.subgraphs[0].operators):
        if reason_not_to_cut(lite.parsed, operator):
            continue
        if name == "lstm" and lite.audit.operators[index].operator == "STRIDED_SLICE":
            continue  # with a shrunk axis: one of the options that the tables leave out
        alone = LiteRTModel(cut_operator(lite.parsed, index, {})[0])
        taken = any(node["op_name"] == "DELEGATE" for node in alone.new_interpreter()._get_ops_details())
        assert taken == (not check_target(alone, "xnnpack")), lite.audit.operators[index]


@pytest.mark.parametrize("target", ["tflm", "edgetpu"])
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"lstm", "attention"}))
def test_convolutional_and_dense_models_fit_in_int8(name, target):
    assert not check_target(cases.artifact(name, "int8-io"), target)
    if target != "edgetpu":
        assert not check_target(cases.artifact(name, "float32"), target)


def test_an_operator_is_an_error_where_nothing_else_can_run_it_and_a_warning_where_the_cpu_can():
    lite = cases.artifact("attention", "int8")
    found = [finding for finding in check_target(lite, "tflm") if "GELU" in str(finding)]
    dense = next(row.layers[-1] for row in lite.audit.operators if row.operator == "GELU")
    assert found == [
        Finding(
            f"GELU (layer '{dense}')",
            "LiteRT for Microcontrollers lacks it; nothing else can run it there.",
            "Use another activation, such as relu or hard_silu.",
            "error",
        )
    ]
    assert [str(f) for f in check_target(lite, "edgetpu") if f.severity == "warning" and "GELU" in str(f)] == [
        f"GELU (layer '{dense}'): the Edge TPU lacks it; the CPU runs it, and the compiler may leave everything after "
        "it to the CPU too. Use another activation, such as relu or hard_silu."
    ]
    assert not any(check_target(lite, target).errors for target in ("xnnpack", "edgetpu"))


def test_a_kernel_that_lacks_the_dtype_is_another_finding_than_one_that_is_not_there():
    lite = cases.artifact("concat", "int8")
    assert (
        "AVERAGE_POOL_2D (layer 'average_pooling2d'): XNNPACK computes it in float32, not in int8; LiteRT's own kernel "
        "runs it, on the same CPU. ConvertConfig(keep_float=...) lets its layer compute in float32."
    ) in [str(finding) for finding in check_target(lite, "xnnpack")]
    square = _dense(keras.layers.Lambda(keras.ops.square, name="square"), keras.layers.Lambda(keras.ops.exp, name="e"))
    config = tg.ConvertConfig(quantization="int8", calibration_data=np.random.default_rng(0).random((8, 32)))
    assert not check_target(tg.convert(square), "tflm")
    assert [str(f).split(";")[0] for f in check_target(tg.convert(square, config), "tflm")] == [
        "EXP (layer 'e'): LiteRT for Microcontrollers computes it in float32, not in int8"
    ]


def test_a_loop_needs_dynamic_sizes_which_microcontrollers_lack():
    lite = cases.artifact("lstm", "float32")
    (finding,) = check_target(lite, "tflm")
    assert finding.severity == "error" and "needs every size fixed, so the file cannot run there" in finding.message
    assert finding.fix == "Give recurrent layers unroll=True and a fixed number of steps."
    loops = [str(f) for f in check_target(lite, "xnnpack")]
    assert loops[0].startswith("WHILE (layer 'lstm' and 1 more): XNNPACK lacks it; LiteRT's own kernel runs it")
    assert not any("while/" in text for text in loops)  # what the loop runs goes with it


def test_an_open_input_shape_is_an_error_only_where_sizes_must_be_fixed():
    lite = tg.convert(_dense(keras.layers.Conv1D(3, 2, padding="same"), shape=(None, 4)))
    assert not any("dynamic size" in str(finding) for finding in check_target(lite, "xnnpack"))
    finding = check_target(lite, "tflm")[0]
    assert finding.severity == "error" and finding.subject.startswith("Tensors of a dynamic size ('x' and ")
    assert finding.fix == "Give every keras.Input a full shape and convert again."


def test_dynamic_range_is_refused_by_microcontrollers_only():
    (finding,) = check_target(_dynamic_range(), "tflm")
    assert finding == Finding(
        "FULLY_CONNECTED (layer 'wide')",
        "LiteRT for Microcontrollers does not combine float inputs with int8 weights (dynamic range); nothing else can "
        "run it there.",
        "Convert with quantization='int8' or 'float32'.",
        "error",
    )
    assert not check_target(_dynamic_range(), "xnnpack")


def test_integer_weights_that_are_made_floats_again_have_one_scale_each_on_microcontrollers():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, name="wide")])
    lite = tg.convert(tg.quantize_weights(model, bits=8))
    (finding,) = check_target(lite, "tflm")
    assert finding.severity == "error" and finding.subject == "DEQUANTIZE (layer 'wide')"
    assert "reads one scale of a tensor there" in finding.message
    assert not check_target(lite, "xnnpack")


def test_float16_weights_are_no_problem_but_on_microcontrollers():
    lite = cases.artifact("concat", "float16")
    assert not check_target(lite, "xnnpack")
    (finding,) = check_target(lite, "tflm")
    assert finding.severity == "error" and "has no float16 tensors" in finding.message
    assert finding.fix == "Convert with quantization='float32' or 'int8'."


def test_the_edge_tpu_takes_int8_and_leaves_float_edges_to_the_cpu():
    for mode in ("float32", "float16"):
        assert [str(finding) for finding in check_target(cases.artifact("concat", mode), "edgetpu")] == [
            f"The file ({mode}): the compiler of the Edge TPU takes int8 only. Convert with quantization='int8'."
        ]
    assert check_target(_dynamic_range(), "edgetpu").errors
    assert list(check_target(cases.artifact("multi_io", "int8"), "edgetpu")) == [
        Finding(
            "Float32 inputs ('image' and 1 more)",
            "the CPU quantizes them before the Edge TPU runs.",
            "Convert with input_dtype='int8'.",
        ),
        Finding(
            "Float32 outputs ('label' and 1 more)",
            "the CPU turns them into float32 after the Edge TPU runs.",
            "Convert with output_dtype='int8'.",
        ),
    ]


def test_bad_input_is_refused():
    with pytest.raises(InvalidTypeError, match="lite: expected a LiteRTModel, received bytes"):
        check_target(b"TFL3", "tflm")
    with pytest.raises(InvalidValueError, match="target: expected 'xnnpack', 'tflm' or 'edgetpu', received 'tpu'"):
        check_target(cases.artifact("functional", "float32"), "tpu")
