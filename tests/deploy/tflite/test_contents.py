from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.deploy import cases
from tfgreen.deploy.tflite import contents
from tfgreen.deploy.tflite.contents import TensorInfo, WeightTensor
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
    found = contents.read_weights(cases.artifact("shared_layer", "float32").parsed)
    assert sorted(w.values.size for w in found.values()) == sorted(kernel.size for kernel in kernels)
    assert all(w.bits == 32 and not w.scale.size for w in found.values())


def test_real_values_go_in_and_out_as_the_tensor_stores_them():
    int8 = TensorInfo("x", (1, 2), "int8", 0.5, 3, index=0)
    stored = int8.to_stored(np.array([-1.0, 99.0]))
    assert stored.dtype == np.int8 and stored.tolist() == [1, 127] and int8.to_real(stored).tolist() == [-1.0, 62.0]
    tokens = TensorInfo("tokens", (1, 2), "int32", None, None, index=0)
    assert tokens.to_stored(np.array([1.0, 2.0])).dtype == np.int32
    for bad in ([0.5, 1.0], [np.nan, 1.0]):
        with pytest.raises(InvalidValueError, match="tensor 'tokens': expected whole numbers"):
            tokens.to_stored(np.array(bad))
