from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tfgreen.transforms.one_shot.kernel_rows import KernelRows

CASES = {
    "dense": (layers.Dense(3), (2, 4, 5)),
    "conv2d same": (layers.Conv2D(3, (3, 2), padding="same", strides=2), (2, 7, 6, 4)),
    "conv2d valid": (layers.Conv2D(3, 3, dilation_rate=2, use_bias=False), (2, 7, 8, 4)),
    "conv1d causal": (layers.Conv1D(3, 3, padding="causal", dilation_rate=2), (2, 7, 4)),
    "conv3d": (layers.Conv3D(3, 2), (2, 4, 3, 5, 2)),
    "einsum": (layers.EinsumDense("abc,cde->abde", (None, 4, 3), bias_axes="de"), (2, 5, 6)),
    "einsum of heads": (layers.EinsumDense("abnh,nhd->abd", (None, 5), bias_axes="d"), (2, 4, 3, 2)),
    "einsum, part of a bias": (layers.EinsumDense("abc,cde->abde", (None, 4, 3), bias_axes="e"), (2, 5, 6)),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_times_matrix_is_what_the_layer_returns(name):
    layer, shape = CASES[name]
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    expected = keras.ops.convert_to_numpy(layer(x))
    rows = KernelRows(layer)
    assert KernelRows.fits(layer)
    matrix, count = rows.matrix(), rows.count(shape)
    flat = expected.reshape(count, -1)
    places = np.random.default_rng(1).permutation(count)[:5]
    bias = np.zeros(1) if rows.intercept() is None else rows.intercept()
    if rows.intercept() is None and layer.bias is not None:
        bias = np.broadcast_to(layer.bias, expected.shape).reshape(count, -1)[places]
    np.testing.assert_allclose(rows.take(x, places) @ matrix + bias, flat[places], rtol=1e-4, atol=1e-4)
    rows.assign(matrix * 2, None if rows.intercept() is None else rows.intercept() * 2)
    if name != "einsum, part of a bias":
        np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), expected * 2, rtol=1e-4, atol=1e-4)


def test_other_layers_are_no_such_product():
    grouped, odd = layers.Conv2D(4, 3, groups=2), layers.EinsumDense("abc,bcd->abd", (5, 3))
    grouped.build((1, 5, 5, 4))
    odd.build((1, 5, 2))
    assert not any(map(KernelRows.fits, (grouped, odd, layers.LSTM(3), layers.DepthwiseConv2D(3))))
