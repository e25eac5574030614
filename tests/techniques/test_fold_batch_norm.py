"""Batch normalization folded into the layer before it: same predictions, fewer layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tfgreen.model.paths import walk
from tfgreen.techniques.fold_batch_norm import fold_batch_norm, foldable


def unsettled(model: keras.Model) -> keras.Model:
    """Statistics and scales as training leaves them; fresh ones would fold to nothing."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            unsettled(layer)
        if isinstance(layer, layers.BatchNormalization):
            for variable in layer.variables:
                variable.assign(rng.uniform(0.5, 2.0, variable.shape))
    return model


def norms(model: keras.Model) -> int:
    return sum(isinstance(layer, layers.BatchNormalization) for _, layer in walk(model))


@pytest.mark.parametrize("name", zoo.ZOO)
def test_predictions_stay_and_the_model_is_untouched(name):
    model, x = unsettled(zoo.ZOO[name]()), zoo.sample(name)
    before = model.get_weights()
    folded = fold_batch_norm(model)
    assert norms(folded) == 0
    for a, b in zip(*(keras.tree.flatten(m.predict(x, verbose=0)) for m in (model, folded)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


CASES = {
    "conv1d": ((8, 3), layers.Conv1D, {"filters": 4, "kernel_size": 3}),
    "conv2d without bias": ((8, 8, 3), layers.Conv2D, {"filters": 4, "kernel_size": 3, "use_bias": False}),
    "conv3d": ((4, 4, 4, 2), layers.Conv3D, {"filters": 4, "kernel_size": 2}),
    "transposed": ((8, 8, 3), layers.Conv2DTranspose, {"filters": 4, "kernel_size": 3, "use_bias": False}),
    "depthwise": ((8, 8, 3), layers.DepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2, "use_bias": False}),
    "depthwise1d": ((8, 3), layers.DepthwiseConv1D, {"kernel_size": 3}),
    "separable": ((8, 8, 3), layers.SeparableConv2D, {"filters": 4, "kernel_size": 3, "use_bias": False}),
    "dense": ((5,), layers.Dense, {"units": 4, "use_bias": False}),
    "grouped": ((8, 8, 4), layers.Conv2D, {"filters": 4, "kernel_size": 3, "groups": 2}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("options", [{}, {"center": False, "scale": False}])
def test_every_kind_of_layer(case, options):
    shape, cls, settings = CASES[case]
    stack = [keras.Input(shape), cls(**settings, name="maker"), layers.BatchNormalization(**options), layers.ReLU()]
    model = unsettled(keras.Sequential(stack))
    folded = fold_batch_norm(model)
    assert norms(folded) == 0 and len(folded.layers) == 2
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype("float32")
    np.testing.assert_allclose(folded.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    assert fold_batch_norm(folded).count_params() == folded.count_params()


def _twice(layer, x):
    return layers.Add()([layer(x), layer(x + 1.0)])


def _unfoldable() -> dict[str, keras.Model]:
    inputs = keras.Input((6,))
    dense, norm = layers.Dense(6), layers.BatchNormalization()
    shared = norm(_twice(dense, inputs))
    other = layers.Dense(6)(inputs)
    return {
        "activation between": keras.Model(inputs, layers.BatchNormalization()(layers.Dense(6, "relu")(inputs))),
        "shared norm": keras.Model(inputs, _twice(layers.BatchNormalization(), layers.Dense(6)(inputs))),
        "no layer before": keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization()(inputs))),
        "sum before": keras.Model(inputs, shared),
        "used elsewhere": keras.Model(inputs, layers.Add()([layers.BatchNormalization()(other), other])),
        "an output": keras.Model(inputs, [layers.BatchNormalization()(other), other]),
    }


@pytest.mark.parametrize("case", _unfoldable())
def test_what_cannot_be_folded_stays(case):
    model = unsettled(_unfoldable()[case])
    assert foldable(model) == {}
    folded = fold_batch_norm(model)
    assert norms(folded) == 1
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    for a, b in zip(*(keras.tree.flatten(m.predict(x, verbose=0)) for m in (model, folded)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_channels_stay():
    model = keras.Sequential([keras.Input((8, 4)), layers.Dense(4), layers.BatchNormalization(axis=1)])
    assert foldable(model) == {}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_layer_that_gets_a_bias_is_saved_with_it_and_stays_frozen_if_it_was(frozen, tmp_path):
    stack = [layers.Conv2D(4, 3, use_bias=False, bias_regularizer="l2"), layers.BatchNormalization()]
    model = unsettled(keras.Sequential([keras.Input((8, 8, 3)), *stack]))
    model.layers[0].trainable = not frozen
    folded = fold_batch_norm(model)
    folded.save(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype("float32")
    for result in (folded, keras.models.load_model(tmp_path / "m.keras")):
        (layer,) = result.layers
        assert layer.get_config()["use_bias"] and [v.name for v in layer.variables] == ["kernel", "bias"]
        assert len(layer.trainable_variables) == (0 if frozen else 2) and layer.bias.trainable != frozen
        assert len(layer.losses) == (0 if frozen else 1)
        np.testing.assert_allclose(result.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)


@pytest.mark.parametrize("change", [lambda layer: layer.quantize("int8"), lambda layer: layer.enable_lora(2)])
def test_a_layer_that_computes_with_another_kernel_than_its_own_stays(change):
    model = unsettled(keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.BatchNormalization()]))
    change(model.layers[0])
    assert foldable(model) == {}


def test_no_model_and_an_unbuilt_one():
    with pytest.raises(TypeError, match="a keras.Model"):
        fold_batch_norm("model.keras")
    with pytest.raises(ValueError, match="built"):
        fold_batch_norm(keras.Sequential([layers.Dense(2)]))
