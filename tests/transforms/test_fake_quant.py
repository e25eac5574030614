from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tfgreen as tg
from tests.quantized import in_int8, normal, quantized
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.fake_quant import FakeQuant, best_ratio, fake_quantize, symmetric_scale

weights = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=st.floats(-8, 8, width=32, allow_subnormal=False),
)
channels = st.sampled_from([(), (-1,), (0,), (0, -1)])


def over(weight: np.ndarray, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that share a scale."""
    return tuple(axis for axis in range(weight.ndim) if axis not in {a % weight.ndim for a in axes})


def reference(weight: np.ndarray, bits: int, axes: tuple[int, ...]) -> np.ndarray:
    """Symmetric rounding in float64."""
    scale = np.abs(weight).max(axis=over(weight, axes), keepdims=True).astype("float64") / (2 ** (bits - 1) - 1)
    scale = np.where(scale > 0, scale, 1.0)
    return np.round(weight / scale) * scale


@given(weights, st.integers(2, 8), channels)
def test_rounding_equals_a_float64_reference_up_to_one_step_at_halves(weight, bits, axes):
    scale = keras.ops.convert_to_numpy(symmetric_scale(weight, bits, axes))
    ours = keras.ops.convert_to_numpy(fake_quantize(weight, scale))
    steps = np.abs(ours - reference(weight, bits, axes)) / scale
    near_half = np.abs(np.abs(weight / scale) % 1 - 0.5) < 1e-3
    assert steps[~near_half].max(initial=0) < 1e-3
    assert steps.max(initial=0) < 1 + 1e-3


@given(weights, st.integers(2, 8))
def test_levels_are_narrow_and_zero_stays_zero(weight, bits):
    scale = symmetric_scale(weight, bits)
    integers = keras.ops.convert_to_numpy(fake_quantize(weight, scale) / scale)
    assert np.abs(integers).max() <= 2 ** (bits - 1) - 1 + 1e-3
    assert (integers[weight == 0] == 0).all()


def built(weight: np.ndarray, *args, **options) -> FakeQuant:
    quant = FakeQuant(*args, **options)
    quant.build(weight.shape)
    quant.start_from(weight)
    return quant


@given(weights, st.integers(2, 8), channels, st.sampled_from(["max", "learned"]))
def test_a_rounded_weight_is_rounded_to_itself_so_the_converter_finds_its_integers(weight, bits, axes, scale):
    rounded = keras.ops.convert_to_numpy(built(weight, bits, axes, scale).apply(weight))
    again = keras.ops.convert_to_numpy(symmetric_scale(rounded, bits, axes))
    steps = rounded / again
    assert np.abs(steps - np.round(steps)).max() < 1e-2
    assert (rounded[weight == 0] == 0).all()


@pytest.mark.parametrize("axes", [(), (-1,)])
def test_the_gradient_passes_straight_through(axes):
    import tensorflow as tf

    quant = FakeQuant(bits=4, axes=axes)
    weight = tf.Variable(np.random.default_rng(0).normal(size=(3, 2)).astype("float32"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(quant.apply(weight) * tf.constant([[1.0, 2.0]]))
    np.testing.assert_array_equal(tape.gradient(loss, weight), [[1, 2]] * 3)


def lsq(weight: np.ndarray, scale: np.ndarray, upstream: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of the weight and of the scale as the paper has them, without its factor, in float64."""
    steps = weight / scale
    inside = np.abs(steps) <= top
    slope = np.where(inside, np.round(steps) - steps, np.sign(steps) * top)
    return upstream * inside, (upstream * slope).sum(axis=tuple(range(weight.ndim - 1)), keepdims=True)


@pytest.mark.parametrize("bits", [2, 4])
def test_the_gradients_of_a_learned_scale_are_those_of_the_paper(bits):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    weight, upstream = rng.normal(size=(3, 3, 5, 4)), rng.normal(size=(3, 3, 5, 4))
    quant = built(weight.astype("float32"), bits, (-1,), "learned")
    top = 2 ** (bits - 1) - 1
    start, ratio = quant.start.numpy().astype("float64"), quant.ratio.numpy().astype("float64")
    assert (ratio < 1).any()  # or nothing would be clipped
    variable = tf.Variable(weight.astype("float32"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(quant.apply(variable) * upstream.astype("float32"))
    ours = tape.gradient(loss, [variable, quant.ratio.value])
    by_weight, by_scale = lsq(weight, start * ratio, upstream, top)
    at_the_end = np.abs(np.abs(weight / start / ratio) - top) < 1e-4
    np.testing.assert_allclose(ours[0].numpy()[~at_the_end], by_weight[~at_the_end], atol=1e-5)
    factor = 1 / np.sqrt(45 * top)
    sure = ~at_the_end.any((0, 1, 2))
    assert sure.any()
    np.testing.assert_allclose(ours[1].numpy()[..., sure], (by_scale * start * factor)[..., sure], rtol=1e-3, atol=1e-5)


@given(weights, st.integers(2, 6), channels)
def test_the_ratio_is_the_best_of_those_tried(weight, bits, axes):
    ratio = best_ratio(weight, bits, axes)
    assert ((ratio >= 0.299) & (ratio <= 1)).all()
    largest = np.abs(weight).max(axis=over(weight, axes), keepdims=True).astype("float64")
    top = 2 ** (bits - 1) - 1

    def error(share):
        scale = np.where(largest > 0, share * largest / top, 1.0)
        rounded = np.clip(np.round(weight / scale), -top, top) * scale
        return ((rounded - weight) ** 2).sum(axis=over(weight, axes), keepdims=True)

    least = np.min([error(share) for share in np.linspace(1.0, 0.3, 36)], axis=0)
    assert (error(ratio.astype("float64")) <= least + 1e-3 * largest**2).all()


@pytest.mark.parametrize("scale", ["max", "learned"])
def test_the_converter_stores_the_integers_of_the_keras_side(scale):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(4, name="out")(inputs))
    kernel = model.get_layer("out").kernel.numpy()
    quant = built(kernel, 8, (-1,), scale)
    rounded = compress(model, lambda path, layer, chains: Choice({"kernel": [quant]}))
    value = keras.ops.convert_to_numpy(quant.apply(kernel))
    lite = tg.convert(rounded, tg.ConvertConfig(quantization="int8", calibration_data=normal(6)))
    (stored,) = lite.weights.values()
    np.testing.assert_allclose(stored.real.T, value, atol=1e-6)
    np.testing.assert_array_equal(stored.values.T, np.round(value / (np.abs(value).max(0) / 127)))


def test_one_scale_for_a_whole_weight_is_told_to_the_converter():
    tokens = np.random.default_rng(0).integers(0, 9, (32, 6))
    model = keras.Sequential([keras.Input((6,), dtype="int32"), keras.layers.Embedding(9, 4, name="it")])
    table = model.get_layer("it").embeddings.numpy()
    (stored,) = in_int8(quantized(model, tokens)).weights.values()
    np.testing.assert_array_equal(stored.values, np.round(table / (np.abs(table).max() / 127)))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"bits": 1}, "bits.*>= 2 and <= 8"),
        ({"bits": 9}, "bits.*>= 2 and <= 8"),
        ({"bits": 3.5}, "bits"),
        ({"scale": "m"}, "scale"),
    ],
)
def test_settings_that_cannot_be_met_are_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        FakeQuant(**settings)
