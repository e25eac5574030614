"""What operators and dtypes of a .tflite file a runtime or an accelerator can run, as data.

Sources of the tables:

- ``xnnpack``: ``tflite/delegates/xnnpack/README.md`` of google-ai-edge/LiteRT, brought up to date by what the delegate
  of ai-edge-litert 2.3.0 takes when it is given operators one by one.
- ``tflm``: ``micro_mutable_op_resolver.h`` of tensorflow/tflite-micro; that it refuses float inputs with integer
  weights: its ``kernels/conv_common.cc`` and ``fully_connected_common.cc``; what it computes in float32 only:
  ``elementwise.cc``, ``exp.cc``, ``round.cc``, ``l2_pool_2d.cc``; that others than its kernels of weights read the
  first scale of a tensor only: ``dequantize_common.cc``. Compared with what the interpreter of tflite-micro
  0.dev20261023182759 takes when it is given operators one by one.
- ``edgetpu``: the table of supported operations at https://coral.ai/docs/edgetpu/models-intro/ (compiler 16).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

TargetName = Literal["xnnpack", "tflm", "edgetpu"]


@dataclasses.dataclass(frozen=True)
class Target:
    """What a target, called ``title`` in sentences, can run."""

    title: str
    kernels: Mapping[str, frozenset[str]]  # operator -> dtypes of the first output that it can compute
    dtypes: frozenset[str]  # what any tensor of an operator may be
    per_channel: frozenset[str] | None = None  # operators that read a scale for each channel; None for all
    hybrid: frozenset[str] = frozenset()  # operators that take float inputs with integer weights (dynamic-range files)
    elsewhere: str = ""  # what runs an operator that is not there; empty where nothing does
    static_shapes: bool = True  # whether a file with a dimension of open size cannot run there
    compiled: bool = False  # whether a compiler comes first, which refuses a file that is not full integer


def _kernels(*groups: tuple[str, str]) -> dict[str, frozenset[str]]:
    """Operator -> dtypes from pairs of ``("dtype dtype ...", "OPERATOR OPERATOR ...")``."""
    return {name: frozenset(dtypes.split()) for dtypes, names in groups for name in names.split()}


_XNNPACK = _kernels(
    (
        "float32 int8 uint8",
        "ADD CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE ELU FULLY_CONNECTED LEAKY_RELU LOGISTIC "
        "MAX_POOL_2D MEAN MUL PAD REDUCE_MAX REDUCE_MIN RESHAPE RESIZE_BILINEAR SLICE SPACE_TO_DEPTH SPLIT "
        "STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV",
    ),
    (
        "float32",
        "ABS AVERAGE_POOL_2D BATCH_MATMUL CEIL COS DEQUANTIZE DIV EXP FLOOR GELU HARD_SWISH LOG MAXIMUM MINIMUM NEG "
        "PRELU RELU RELU6 RELU_N1_TO_1 ROUND RSQRT SIN SOFTMAX SQRT SQUARE SQUARED_DIFFERENCE",
    ),
    ("float32 float16 int8", "DENSIFY"),
    ("int8 uint8", "QUANTIZE"),
)

_TFLM = _kernels(
    (
        "float32 int8 int16 int32 int64 bool resource",
        "ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS "
        "BROADCAST_TO CALL_ONCE CAST CONCATENATION CONV_2D CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DIV "
        "DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER "
        "GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION LEAKY_RELU LESS LESS_EQUAL LOGICAL_AND "
        "LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL "
        "PACK PAD PADV2 PRELU READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU RELU6 RESIZE_BILINEAR "
        "RESIZE_NEAREST_NEIGHBOR REVERSE_V2 RSQRT SELECT_V2 SHAPE SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH "
        "SPLIT SPLIT_V SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF TANH TRANSPOSE TRANSPOSE_CONV "
        "UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE",
    ),
    ("float32", "CEIL COS EXP FLOOR L2_POOL_2D LOG ROUND SIN SQRT SQUARE"),
    # Custom operators that its resolver knows by name are the last two.
    ("float32 int8 uint8 int16 int32", "DEQUANTIZE QUANTIZE RESHAPE CIRCULAR_BUFFER TFLite_Detection_PostProcess"),
)

_EDGETPU = _kernels(
    (
        "int8 uint8",
        "ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED L2_NORMALIZATION "
        "LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 "
        "RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE SOFTMAX SPACE_TO_DEPTH SPLIT "
        "SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM",
    ),
)

TARGETS: dict[str, Target] = {
    "xnnpack": Target(
        "XNNPACK",
        _XNNPACK,
        frozenset({"float32", "float16", "int8", "uint8", "int4", "int32"}),
        hybrid=frozenset({"CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}),
        elsewhere="LiteRT's own kernel runs it, on the same CPU",
        static_shapes=False,
    ),
    "tflm": Target(
        "LiteRT for Microcontrollers",
        _TFLM,
        frozenset({"float32", "int8", "uint8", "int16", "int32", "int64", "bool", "int4", "resource"}),
        per_channel=frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}),
    ),
    "edgetpu": Target(
        "the Edge TPU",
        _EDGETPU,
        frozenset({"int8", "uint8", "int32"}),
        elsewhere="the CPU runs it, and the compiler may leave everything after it to the CPU too",
        compiled=True,
    ),
}
