from __future__ import annotations

import keras
import numpy as np
import pytest

from tfgreen.recipes.metrics.compiled_metrics import compiled_metrics


def two_outputs():
    x = keras.Input((3,))
    return keras.Model(x, [keras.layers.Dense(2, name="label")(x), keras.layers.Dense(1, name="size")(x)])


COMPILED = {
    "one output": (False, {"loss": "mse", "metrics": ["mae", keras.metrics.AUC(name="area")]}),
    "a dict of one": (False, {"loss": {"label": "mse"}, "metrics": {"label": ["mae"]}}),
    "two outputs": (True, {"loss": ["mse", "mae"], "metrics": [["mae", "mse"], ["mae"]], "loss_weights": [1.0, 0.5]}),
    "dicts": (True, {"loss": {"label": "mse", "size": "mae"}, "metrics": {"size": "mae"}}),
    "one loss for all": (True, {"loss": "mse"}),
}


@pytest.mark.parametrize("case", COMPILED)
def test_names_are_those_of_keras(case):
    several, settings = COMPILED[case]
    model = two_outputs()
    model = model if several else keras.Model(model.inputs, model.outputs[0])
    model.compile("sgd", **settings)
    y = [np.ones((4, 2)), np.ones((4, 1))]
    reported = model.evaluate(np.ones((4, 3)), y if several else y[0], verbose=0, return_dict=True)
    found = compiled_metrics(model)
    assert set(found) == set(reported) | ({"label_loss", "size_loss"} if several else set())
    if settings.get("loss_weights"):
        assert found["loss"] == [("label", "mse", 1.0), ("size", "mae", 0.5)]


def test_a_model_that_is_not_compiled_is_named():
    with pytest.raises(ValueError, match="is not compiled"):
        compiled_metrics(two_outputs())
