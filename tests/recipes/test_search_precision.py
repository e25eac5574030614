"""search_precision: few layers in float, no more conversions than it takes, and the layer that is the cause."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tests import zoo
from tests.quantized import normal
from tfgreen.recipes.search_precision import search_precision

X = normal(8, 8, 3, count=64)


def failing() -> keras.Model:
    """A depthwise network of which the channels of 'dw' lie 100 times apart, and 'mix' takes them in the other way."""
    keras.utils.set_random_seed(0)
    stack = [
        layers.Conv2D(16, 3, activation="relu", name="first"), layers.DepthwiseConv2D(3, name="dw", use_bias=False),
        layers.BatchNormalization(name="norm"), layers.ReLU(name="relu"),
        layers.Conv2D(16, 1, activation="relu", name="mix"), layers.Conv2D(8, 3, activation="relu", name="last"),
        layers.Flatten(), layers.Dense(6, name="out"),
    ]
    model = keras.Sequential([keras.Input((8, 8, 3)), *stack])
    factor = np.where(np.arange(16) % 4, 1.0, 100.0)
    for name in ("gamma", "beta"):
        variable = getattr(model.get_layer("norm"), name)
        variable.assign(variable * factor)
    mix = model.get_layer("mix")
    mix.kernel.assign(mix.kernel / factor[:, None])
    return model


def closeness(model: keras.Model):
    """A score: how far, negative, a file's outputs are from the model's, relative to their size."""
    exact = model.predict(X, verbose=0)
    return lambda lite: -float(np.abs(lite.predict(X) - exact).mean() / np.abs(exact).mean())


def test_a_good_int8_file_is_taken_as_it_is():
    model = zoo.sequential()
    x = zoo.sample("sequential", 32)
    result = search_precision(model, x, x=x, y=zoo.targets("sequential", 32), max_drop=0.5)
    assert result.score == result.lite.evaluate(x, zoo.targets("sequential", 32))
    assert (result.keep_float, result.cause, result.cause_layers) == ((), "", ())
    assert result.model is model and not result.lite.float_operators
    assert [trial.name for trial in result.trials] == ["float32", "int8"]
    assert str(result).endswith("\nAll layers are int8.") and "<p>All layers are int8.</p>" in result._repr_html_()
    assert repr(result).startswith(f"<MixedPrecision: score {result.score:.4f}, ")
    assert result.to_dict()["trials"][1]["size_bytes"] == result.lite.size_bytes
    batches = tf.data.Dataset.from_tensor_slices(x).batch(8)
    again = search_precision(model, iter(batches), x=x, y=zoo.targets("sequential", 32), max_drop=0.5)
    assert again.trials == result.trials  # a generator is read once


@pytest.mark.slow
def test_equalization_is_enough_where_channels_lie_apart():
    model = failing()
    result = search_precision(model, X, score=closeness(model), max_drop=0.08)
    assert result.keep_float == () and [trial.name for trial in result.trials] == ["float32", "int8", "equalized int8"]
    plain, equalized = (-trial.score for trial in result.trials[1:])
    assert plain > 0.15 and equalized < 0.08
    assert result.cause_layers == ("dw", "norm", "relu")
    assert "'mix' loses most" in result.cause and "output of 'dw + norm + relu'" in result.cause
    assert search_precision(model, X, score=closeness(model), max_drop=0.08).trials == result.trials
    np.testing.assert_allclose(result.model.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_without_it_the_two_layers_around_the_lost_tensor_stay_float():
    model = failing()
    result = search_precision(model, X, score=closeness(model), max_drop=0.05, equalize_first=False)
    assert result.keep_float == ("dw", "norm", "relu", "mix")
    assert set(result.keep_float) <= set(result.lite.audit.float_layers)
    assert result.score == max(trial.score for trial in result.trials if trial.keep_float)
    assert result.score >= result.trials[0].score - 0.05
    assert len(result.trials) <= 6
    lines = str(result).splitlines()
    assert lines[-1] == "Kept in float: dw, norm, relu, mix." and len(lines) == 3 + len(result.trials)


@pytest.mark.slow
def test_what_no_int8_layer_can_keep_to_is_an_error():
    model = failing()
    scores = iter([1.0, *[0.0] * 99])
    with pytest.raises(ValueError, match="max_drop.*all layers but .* in float it is 0.0000"):
        search_precision(model, X, score=lambda lite: next(scores), max_drop=0.5)
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, name="only")])
    with pytest.raises(ValueError, match="max_drop.*even with all layers but only in float"):
        search_precision(model, X, score=closeness(model), max_drop=0.0)


@pytest.mark.slow
def test_layers_that_the_config_keeps_stay_float_too():
    model = failing()
    config = tg.ConvertConfig(quantization="int8", keep_float=("out",), calibration="mse")
    result = search_precision(model, X, score=closeness(model), max_drop=0.05, config=config)
    assert result.keep_float == () and result.lite.audit.float_layers == ("out",)


def test_bad_arguments_are_named():
    model, x = zoo.functional(), zoo.sample("functional")

    def run(score=lambda lite: 1.0, max_drop=0.1, x=x, **settings):
        config = tg.ConvertConfig(**{"quantization": "int8", **settings})
        return search_precision(model, x, score=score, max_drop=max_drop, config=config)

    with pytest.raises(ValueError, match="max_drop.*-1"):
        run(max_drop=-1)
    with pytest.raises(TypeError, match="max_drop.*str"):
        run(max_drop="1 %")
    for wrong in ({}, {"x": x}, {"x": x, "y": [0], "score": len}, {"y": [0], "score": len}):
        with pytest.raises(ValueError, match="needs x and y, whose accuracy counts, or a score. Call search_precision"):
            search_precision(model, x, **wrong)
    with pytest.raises(TypeError, match="score: expected a function"):
        run(score=0.9)
    with pytest.raises(TypeError, match=r"score\(lite\): expected a number, received NoneType"):
        run(score=lambda lite: None)
    with pytest.raises(ValueError, match=r"score\(lite\): expected a number, received nan"):
        run(score=lambda lite: float("nan"))
    with pytest.raises(ValueError, match="config.quantization.*'float16'"):
        run(quantization="float16")
    with pytest.raises(ValueError, match="config.calibration_data"):
        run(calibration_data=x)
    with pytest.raises(ValueError, match="calibration_data.*NaN"):
        run(x=np.full_like(x, np.nan))
    with pytest.raises(TypeError, match="config.*received dict"):
        search_precision(model, x, score=lambda lite: 1.0, config={})
    with pytest.raises(dataclasses.FrozenInstanceError):
        run().keep_float = ()
    scores = iter([1.0, 0.0])
    with pytest.raises(ValueError, match="subclass"):
        search_precision(zoo.subclassed(), zoo.sample("subclassed"), score=lambda lite: next(scores))
