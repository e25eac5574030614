"""GPTQ and AWQ on whole models, layer by layer."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

import tfgreen as tg
from tfgreen.transforms.integer_weights import group_scales
from tfgreen.transforms.one_shot.awq import awq_factors
from tfgreen.transforms.one_shot.gptq import gptq

RNG = np.random.default_rng(0)


def two_layers() -> keras.Model:
    stack = [layers.Dense(16, activation="relu", name="first"), layers.Dense(8, name="second")]
    return keras.Sequential([keras.Input((12,)), *stack])


def correlated(rows: int, width: int) -> np.ndarray:
    return (RNG.normal(size=(rows, 4)) @ RNG.normal(size=(4, width)) + 0.3 * RNG.normal(size=(rows, width))).astype("f")


def test_gptq_rounds_each_layer_on_what_the_rounded_ones_before_it_return():
    model, x = two_layers(), correlated(80, 12)
    plain = tg.strip(tg.quantize_weights(model, bits=4, method="gptq", calibration_data=x))
    seen = x.astype("float64")
    for name in ("first", "second"):
        kernel, bias = model.get_layer(name).get_weights()
        scales = np.repeat(group_scales(kernel, 4, None), len(kernel), axis=0)
        expected = gptq(kernel, seen.T @ seen, scales, 7) * scales
        np.testing.assert_allclose(plain.get_layer(name).kernel, expected, rtol=1e-4, atol=1e-5)
        seen = np.maximum(seen @ expected + bias, 0)


def test_awq_takes_the_factors_of_the_function_of_arrays():
    model, x = two_layers(), correlated(80, 12) * np.linspace(0.2, 8, 12, dtype="f")
    rounded = tg.quantize_weights(model, bits=4, group_size=4, method="awq", calibration_data=x)
    seen = x.astype("float64")
    rounding = rounded.get_layer("first").chains[0].transforms[0]
    expected = awq_factors(model.get_layer("first").kernel.numpy(), seen.T @ seen, 4, 4)
    np.testing.assert_allclose(rounding.factors[:, 0], expected, rtol=1e-5)


def test_zeros_of_a_mask_stay_and_so_does_a_codebook():
    model, x = two_layers(), correlated(80, 12)
    pruned = tg.prune(model, criterion="sparsegpt", calibration_data=x)
    both = tg.strip(tg.quantize_weights(pruned, method="gptq", calibration_data=x))
    for name in ("first", "second"):
        before, after = pruned.get_layer(name).layer.kernel.numpy(), both.get_layer(name).kernel.numpy()
        assert (after[before == 0] == 0).all() and 0 < np.abs(before - after).max() < 0.2
    clustered = tg.quantize_weights(tg.cluster(model, number_of_clusters=4), method="gptq", calibration_data=x)
    assert "rounded to nearest" in tg.summary(clustered).weights[0].reason
    assert len(np.unique(tg.strip(clustered).get_layer("first").kernel)) <= 4 * 16
