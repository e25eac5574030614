from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tfgreen as tg
from tests.deploy import cases
from tfgreen.deploy.tflite.flatbuffer import pack_nibbles
from tfgreen.deploy.tflite.stored_weights import WeightTensor, read_weights
from tfgreen.deploy.tflite.writing import write


@given(
    hnp.arrays(np.int8, (3, 4), elements=st.integers(-128, 127)),
    hnp.arrays(np.float64, 3, elements=st.floats(0.01, 10)),
    hnp.arrays(np.int64, 3, elements=st.integers(-5, 5)),
)
def test_a_weight_per_channel_is_numpys(values, scale, zero_point):
    weight = WeightTensor(values, 8, scale, zero_point, axis=0)
    expected = (values.astype(np.float64) - zero_point[:, None]) * scale[:, None]
    np.testing.assert_allclose(weight.real, expected, rtol=1e-6)
    assert weight.zeros == (expected == 0).sum() and weight.stored_bytes == 12
    assert WeightTensor(values, 4, scale, zero_point, 0).stored_bytes == 6
    plain = WeightTensor(values.astype("float32"), 32, np.zeros(0), np.zeros(0, np.int64), 0)
    np.testing.assert_array_equal(plain.real, values)
    assert plain.zeros == (values == 0).sum()


def test_weights_are_the_kernels_each_buffer_once():
    model = cases.model("shared_layer")
    kernels = [w for w in model.get_weights() if w.ndim >= 2]
    found = read_weights(cases.artifact("shared_layer", "float32").parsed)
    assert sorted(w.values.size for w in found.values()) == sorted(kernel.size for kernel in kernels)
    assert all(w.bits == 32 and not w.scale.size for w in found.values())


@pytest.mark.parametrize("rows, blocks", [(3, 2), (1, 1)])
def test_four_bit_weights_with_a_scale_for_each_block_are_dequantized(rows, blocks):
    rng = np.random.default_rng(0)
    values = rng.integers(-8, 8, (rows, 32 * blocks)).astype(np.int8)
    scales = rng.uniform(0.5, 2, (rows, blocks)).astype(np.float16)
    details = schema.BlockwiseQuantizationT(scales=2, zeroPoints=-1, blockSize=32)
    kind = schema.QuantizationDetails.BlockwiseQuantization
    quantization = schema.QuantizationParametersT(detailsType=kind, details=details)
    float32, int4, float16 = (getattr(schema.TensorType, name) for name in ("FLOAT32", "INT4", "FLOAT16"))
    tensors = [
        schema.TensorT(np.int32([1, 32 * blocks]), float32, 0, b"x"),
        schema.TensorT(np.int32(values.shape), int4, 1, b"kernel", quantization),
        schema.TensorT(np.int32(scales.shape), float16, 2, b"scales"),
        schema.TensorT(np.int32([1, rows]), float32, 0, b"y"),
    ]
    data = [None, pack_nibbles(values.ravel()), scales.ravel().view(np.uint8)]
    buffers = [schema.BufferT(item) for item in data]
    code = schema.BuiltinOperator.FULLY_CONNECTED
    dense = schema.OperatorT(0, np.int32([0, 1, -1]), np.int32([3]))
    graph = schema.SubGraphT(tensors, np.int32([0]), np.int32([3]), [dense], b"main")
    codes = [schema.OperatorCodeT(code, builtinCode=code)]
    lite = tg.LiteRTModel(write(schema.ModelT(3, codes, [graph], b"", buffers)))
    assert lite.quantization == "dynamic"
    weight = lite.weights["kernel"]
    assert weight.bits == 4 and weight.zeros == (values == 0).sum()
    expected = values.reshape(rows, blocks, 32) * scales[..., None].astype(np.float64)
    np.testing.assert_allclose(weight.real, expected.reshape(values.shape), rtol=1e-6)
