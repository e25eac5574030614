from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo
from tests.quantized import quantized
from tfgreen.training.input_ranges import InputRanges


def trained(model: keras.Model, name: str, scale: float = 1.0, **options) -> list[str]:
    """The warnings of one epoch on data of a scale."""
    x = keras.tree.map_structure(lambda array: array * scale, zoo.sample(name, 32))
    model.compile(keras.optimizers.SGD(1e-6), zoo.loss(name), **options)  # inputs of 255 must not make it diverge
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, zoo.targets(name, 32), batch_size=8, verbose=0, callbacks=[tg.UpdateCompression()])
    return [str(one.message) for one in caught if one.category is UserWarning]


SLOWER = zoo.slow("functional", "residual", "multi_io")


@pytest.mark.parametrize("name", ["shared_layer", *SLOWER])
@pytest.mark.parametrize("options", [{}, pytest.param({"steps_per_execution": 4}, marks=pytest.mark.slow)], ids=str)
def test_only_data_of_another_scale_is_heard_of_once_for_each_input(name, options):
    inputs = {"functional": 1, "shared_layer": 1, "multi_io": 2, "residual": 2}[name]
    for scale, count in ((1.0, 0), (0.5, 0), (3.0, 0), (255.0, inputs), (1 / 255, inputs)):
        model = quantized(zoo.ZOO[name](), zoo.sample(name, 64))
        assert len(trained(model, name, scale, **options)) == count
        assert not trained(model, name, scale, **options)


def test_the_numbers_are_those_of_the_data():
    x = np.linspace(0, 1, 64 * 12, dtype="float32").reshape(64, 12)
    model = quantized(zoo.functional(), x)
    watched = InputRanges(model)
    batch = np.linspace(0, 255, 8 * 12, dtype="float32").reshape(8, 12)
    model(batch, training=True)
    with pytest.warns(UserWarning, match=r"layer 'hidden' \(Dense\).* 0 and 255, .*calibration.* between 0 and 1\."):
        watched.compare(1)


@pytest.mark.parametrize("ranges", ["learned", "fixed"])
def test_ranges_that_do_not_follow_the_data_are_not_watched(ranges):
    model = quantized(zoo.functional(), zoo.sample("functional", 64), ranges=ranges)
    InputRanges(model).compare(1)
    assert not trained(model, "functional", 255.0)


def test_a_subclassed_model_has_none():
    model = tg.quantize(zoo.subclassed(), tg.QuantizeConfig())
    InputRanges(model).compare(1)
