"""The record of a model's work."""

from __future__ import annotations

from tfgreen.energy.devices.work import LayerWork, ModelWork


def test_the_weights_of_a_model_are_those_of_its_layers():
    layers = tuple(LayerWork(name, "CONV_2D", "int8", 10, 2, size, 4) for name, size in (("a", 3), ("b", 5)))
    assert ModelWork("m", {"x": (1, 2)}, layers, ()).weight_bytes == 8
