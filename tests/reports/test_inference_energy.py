"""inference_energy and compare_energy: joules of files and of Keras models."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo
from tests.deploy import cases


@pytest.fixture(scope="module")
def networks():
    keras.utils.set_random_seed(0)
    small = keras.Sequential([keras.Input((128,)), keras.layers.Dense(64), keras.layers.Dense(8)])
    layers = [keras.layers.Dense(2048, "relu") for _ in range(3)]
    return {"large": keras.Sequential([keras.Input((128,)), *layers]), "small": small}


X = np.random.default_rng(0).normal(size=(3, 128)).astype("float32")


def test_the_smaller_file_needs_less(networks):
    lites = {name: tg.convert(model) for name, model in networks.items()}
    found = tg.compare_energy(lites, X, seconds=0.5)
    assert found.verdict("small") == "less" and found.ratios["small"][0] < 0.5
    one = tg.inference_energy(lites["small"], X, seconds=0.2, region="DEU", threads=2)
    assert one.joules_per_inference > 0 and one.co2e_kg_per_inference > 0


def test_keras_models_run_as_graphs(networks):
    found = tg.compare_energy(networks, X, seconds=0.5)
    assert found.verdict("small") == "less"
    meter = tg.EnergyMeter(external=lambda: 5.0)
    assert tg.inference_energy(networks["small"], X, seconds=0.1, meter=meter).source == "external"


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.mostly_slow())
def test_every_zoo_model_is_measured(name):
    x = zoo.sample(name, 2)
    for item in (cases.artifact(name, "float32"), zoo.ZOO[name]()):
        assert tg.inference_energy(item, x, seconds=0.05).runs >= 7


def test_a_generator_is_read_once_for_all(networks):
    lite = tg.convert(networks["small"])
    found = tg.compare_energy({"a": networks["small"], "b": lite}, (X[i : i + 1] for i in range(3)), seconds=0.05)
    assert found["b"].runs >= 7
    assert tg.inference_energy(lite, (X[i : i + 1] for i in range(3)), seconds=0.05).runs >= 7


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"x": None}, ValueError, "no sample"),
        ({"x": X[:0]}, ValueError, "at least one sample"),
        ({"x": X[:, :5]}, ValueError, "128"),
        ({"threads": 0}, ValueError, "threads"),
        ({"threads": 2}, ValueError, "1 for a Keras model"),
        ({"seconds": 0}, ValueError, "seconds"),
        ({"region": "Germny"}, ValueError, "DEU"),
        ({"region": "DEU", "meter": tg.EnergyMeter()}, ValueError, "meter"),
        ({"meter": 3}, TypeError, "meter"),
        ({"lite": "model.tflite"}, TypeError, "LiteRTModel or a Keras model"),
    ],
    ids=range(10),
)
def test_bad_arguments_are_named(networks, change, error, message):
    with pytest.raises(error, match=message):
        tg.inference_energy(**{"lite": networks["small"], "x": X, "seconds": 0.01} | change)


def test_one_model_is_nothing_to_compare(networks):
    with pytest.raises(ValueError, match="two models"):
        tg.compare_energy({"a": networks["small"]}, X)
    with pytest.raises(TypeError, match="dict of models"):
        tg.compare_energy([networks["small"]], X)
