"""layer_rows: what the file holds of each layer, and what the models cost."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.reports.layers import layer_rows

X = np.random.default_rng(0).normal(size=(16, 6, 6, 3)).astype("float32")


def network(filters=8):
    layers = [
        keras.layers.Conv2D(filters, 3, use_bias=False, name="conv"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.ReLU(name="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(5, name="head"),
    ]
    return keras.Sequential([keras.Input((6, 6, 3)), *layers])


def test_the_file_tells_bits_zeros_clusters_and_channels():
    model = network()
    kernel = np.random.default_rng(1).choice([-0.5, 0.0, 0.25, 0.75], size=(3, 3, 3, 8))
    model.get_layer("conv").set_weights([kernel])
    int8 = tg.convert(model, tg.ConvertConfig(quantization="int8", calibration_data=X))
    conv, head = layer_rows(model, int8, before=network(16), x=X)
    assert (conv.path, conv.macs, conv.macs_before) == ("conv", 4 * 4 * 27 * 8, 4 * 4 * 27 * 16)
    assert (conv.channels, conv.channels_before, conv.bits, head.channels, head.bits) == (8, 16, 8, 5, 8)
    assert conv.sparsity == pytest.approx((kernel == 0).mean()) and head.clusters is None
    assert 15 < head.sqnr_db < 70

    conv, head = layer_rows(model, tg.convert(model))
    assert conv.bits == 32 and conv.macs_before is conv.channels_before is conv.sqnr_db is None


def test_clusters_are_counted_without_zero():
    model = network()
    values = np.random.default_rng(1).choice([-0.5, 0.0, 0.25, 0.75], size=(128, 5))
    model.get_layer("head").set_weights([values, np.zeros(5)])
    rows = {row.path: row for row in layer_rows(model, tg.convert(model))}
    assert rows["head"].clusters == 3 and rows["conv"].clusters is None


def test_a_small_clustered_kernel_is_known_as_such():
    model = network()
    clustered = tg.cluster(model, number_of_clusters=16, layers={"head": None})
    rows = {row.path: row for row in layer_rows(clustered, tg.convert(clustered))}
    assert rows["conv"].clusters == 16 and rows["head"].clusters is None
    few = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(6, 2, name="conv"), keras.layers.Flatten()])
    clustered = tg.cluster(few, number_of_clusters=8)
    [row] = layer_rows(clustered, tg.convert(clustered))
    assert row.clusters == 8  # of 24 weights
