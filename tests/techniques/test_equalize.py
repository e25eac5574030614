"""Cross-layer equalization: the same function, other ranges, and a reason wherever nothing can be done."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import tfgreen as tg
from tests import zoo
from tests.quantized import in_int8, normal, varied
from tfgreen.techniques.equalize import equalize_pair, find_pairs


def spread(model: keras.Model, seed: int = 0) -> keras.Model:
    """Biases and statistics that matter, and channels of every kernel that lie up to 100 times apart."""
    rng = np.random.default_rng(seed)
    for variable in varied(model, seed).variables:
        if variable.name == "kernel":
            size = variable.shape[-1]
            variable.assign(variable * 10 ** rng.uniform(-1, 1, size) / np.sqrt(size))
    return model


def same(one: keras.Model, other: keras.Model, x: np.ndarray) -> None:
    a, b = (model.predict(x, verbose=0).astype(np.float64) for model in (one, other))
    np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * np.abs(a).max())


def ranges(model: keras.Model, first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    """Largest magnitudes per channel between two Conv2D: of the output of one kernel, of the input of the other."""
    one, two = (np.abs(model.get_layer(name).kernel.numpy()) for name in (first, second))
    return one.max(axis=(0, 1, 2)), two.max(axis=(0, 1, 3))


kernels = st.integers(1, 5).flatmap(lambda channels: st.tuples(st.just(channels), st.integers(0, 2**32 - 1)))


@given(kernels, st.floats(-12, 12))
def test_a_pair_multiplies_to_what_it_did_and_meets_in_range(case, exponent):
    channels, seed = case
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(3, channels, 2)) * 10 ** rng.uniform(-abs(exponent), abs(exponent), (channels, 1))
    second, bias = rng.normal(size=(4, channels, 3)), rng.normal(size=channels)
    one, shifted, two, factor = equalize_pair(first, bias, second)
    np.testing.assert_allclose(np.einsum("aib,cid->abcid", one, two), np.einsum("aib,cid->abcid", first, second))
    np.testing.assert_allclose(shifted * factor, bias)
    r1, r2 = np.maximum(np.abs(first).max(axis=(0, 2)), np.abs(bias) / 100), np.abs(second).max(axis=(0, 2))
    np.testing.assert_allclose(factor, np.sqrt(r1 * r2) / r2)
    after = np.maximum(np.abs(one).max(axis=(0, 2)), np.abs(shifted) / 100)
    np.testing.assert_allclose(after, np.abs(two).max(axis=(0, 2)))


def test_a_channel_that_is_zero_in_one_kernel_stays():
    first, second = np.array([[[0.0], [3.0], [5.0]]]), np.array([[[2.0], [0.0], [5.0]]])
    one, bias, two, factor = equalize_pair(first, np.ones(3), second)
    np.testing.assert_array_equal(factor, np.ones(3))
    np.testing.assert_array_equal(one, first)
    np.testing.assert_array_equal(two, second)


BETWEEN = {
    "nothing": (),
    "relu": (layers.ReLU(),),
    "leaky relu layers": (layers.ReLU(negative_slope=0.2), layers.LeakyReLU(), layers.Activation("leaky_relu")),
    "prelu": (layers.PReLU(alpha_initializer="uniform"),),
    "padding, cropping, dropout": (layers.ZeroPadding2D(2), layers.Cropping2D(1), layers.Dropout(0.3)),
    "poolings": (layers.MaxPooling2D(2, 1, "same"), layers.AveragePooling2D(2, 1, "same"), layers.UpSampling2D()),
    "norm": (layers.BatchNormalization(), layers.ReLU()),
}
SECOND = {
    "conv": lambda: layers.Conv2D(3, 3, activation="softmax"),
    "depthwise": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
    "transposed": lambda: layers.Conv2DTranspose(3, 3, strides=2),
    "dense": lambda: layers.Dense(3),
}
FIRST = {
    "conv": lambda: layers.Conv2D(6, 3, activation="relu"),
    "grouped": lambda: layers.Conv2D(6, 3, groups=3, use_bias=False),
    "depthwise": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
    "transposed": lambda: layers.Conv2DTranspose(6, 3, activation="leaky_relu"),
    "dense": lambda: layers.Dense(6),
}


def check(stack: list, shape: tuple[int, ...], pairs: int = 1) -> keras.Model:
    model, x = spread(keras.Sequential([keras.Input(shape), *stack])), normal(*shape, count=16)
    before = model.get_weights()
    result = tg.equalize(model)
    assert len(find_pairs(result)[0]) == pairs
    same(model, result, x)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [layer for layer in model.layers if hasattr(layer, "kernel")]
    assert all(
        np.abs(result.get_layer(layer.name).kernel.numpy() / layer.kernel.numpy() - 1).max() > 0.1 for layer in kernels
    )
    return result


@pytest.mark.parametrize("between", BETWEEN)
def test_what_may_stand_between(between):
    parts = [type(layer).from_config(layer.get_config()) for layer in BETWEEN[between]]
    first = layers.Conv2D(6, 3, use_bias=between != "norm")
    check([first, *parts, layers.Conv2D(3, 3)], (9, 9, 3))


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("second", SECOND)
def test_every_kind_of_kernel(first, second):
    check([FIRST[first](), SECOND[second]()], (9, 9, 3))


def test_one_dimension_and_global_pooling():
    stack = [layers.Conv1D(4, 3), layers.DepthwiseConv1D(3, activation="relu"), layers.GlobalMaxPooling1D()]
    check([*stack, layers.Dense(3)], (12, 3), pairs=2)


def test_flatten_repeats_the_channels():
    stack = [layers.Conv2D(4, 3), layers.ReLU(), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(5)]
    result = check(stack, (8, 8, 3))
    one = np.abs(result.layers[0].kernel.numpy()).max(axis=(0, 1, 2))
    two = np.abs(result.layers[-1].kernel.numpy()).reshape(9, 4, 5).max(axis=(0, 2))
    np.testing.assert_allclose(one, two, rtol=1e-3)


def test_a_chain_of_conv_depthwise_conv_settles_with_all_ranges_met():
    stack = [
        layers.Conv2D(8, 3, name="a"), layers.ReLU(), layers.DepthwiseConv2D(3, activation="relu", name="b"),
        layers.Conv2D(4, 1, name="c"),
    ]  # fmt: skip
    result = check(stack, (8, 8, 3), pairs=2)
    out_of_a, into_c = ranges(result, "a", "c")
    inside = np.abs(result.get_layer("b").kernel.numpy()).max(axis=(0, 1, 3))
    np.testing.assert_allclose(out_of_a, inside, rtol=0.02)
    np.testing.assert_allclose(inside, into_c, rtol=0.02)
    assert out_of_a.max() / out_of_a.min() < 5  # they were up to 100 times apart, times what a kernel has anyway


def test_a_channel_that_is_nothing_but_a_bias_does_not_widen_the_range_of_the_others():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu", name="a"), layers.Dense(4, name="b")])
    kernel, bias = model.get_layer("a").kernel.numpy(), np.zeros(16)
    kernel[:, 3], bias[3] = kernel[:, 3] * 1e-8, 1.0
    model.get_layer("a").set_weights([kernel, bias])
    result, x = tg.equalize(model), normal(8, count=256)
    same(model, result, x)
    assert result.get_layer("a").bias.numpy().max() < 20  # by the kernel alone it would be several thousands
    exact = model.predict(x, verbose=0)
    errors = [np.abs(in_int8(one, x).predict(x) - exact).mean() for one in (model, result)]
    assert errors[1] < 3 * errors[0]


def relu6(x):
    return layers.ReLU(6.0, name="clip")(x)


def twice(x):
    return layers.Add(name="sum")([x, layers.ReLU()(x)])


def shared(x):
    conv = layers.Conv2D(4, 3, padding="same", name="again")
    return conv(conv(x))


REASONS = {
    "relu6": (relu6, r"after 'first': 'clip' \(ReLU\) has max_value=6.0"),
    "threshold": (lambda x: layers.ReLU(threshold=1.0)(x), "has a threshold"),
    "silu": (lambda x: layers.Activation("silu")(x), "activation 'silu'"),
    "two consumers": (twice, "2 layers take the output of 'first'"),
    "norm over another axis": (lambda x: layers.BatchNormalization(axis=1, name="norm")(x), r"'norm' \(BatchNorm"),
    "reshaped": (lambda x: layers.Permute((3, 1, 2))(x), r"\(Permute\) does not pass on a scale of each channel"),
    "called twice": (shared, r"'again' \(Conv2D\) is called 2 times"),
    "groups": (lambda x: layers.Conv2D(4, 1, groups=2, activation="silu", name="split")(x), "'split'.*has groups"),
    "constraint": (
        lambda x: layers.Conv2D(4, 1, kernel_constraint="non_neg", activation="silu")(x), "has a constraint"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REASONS)
def test_no_pair_is_an_error_with_the_reason(case):
    between, reason = REASONS[case]
    inputs = keras.Input((6, 6, 4))
    x = between(layers.Conv2D(4, 3, padding="same", name="first")(inputs))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x), name="net")
    with pytest.raises(ValueError, match=f"model 'net'.*{reason}.*output of the model"):
        tg.equalize(model)


def test_a_relu6_is_left_beside_a_pair_that_is_equalized():
    stack = [
        layers.Conv2D(6, 3, name="a"), layers.ReLU(6.0, name="clip"), layers.Conv2D(6, 3, name="b"), layers.ReLU(),
        layers.Conv2D(2, 3, name="c"),
    ]  # fmt: skip
    model = spread(keras.Sequential([keras.Input((12, 12, 3)), *stack]))
    result = tg.equalize(model)
    np.testing.assert_array_equal(result.get_layer("a").kernel, model.get_layer("a").kernel)
    one, two = ranges(result, "b", "c")
    np.testing.assert_allclose(one, two, rtol=0.02)
    same(model, result, normal(12, 12, 3, count=16))


NO_KERNELS = "'{}_net' has no two kernels with only layers between them that commute with a scale"
WITHOUT = ("concat", "shared_layer", "multi_io", "lstm", "attention", "custom_layer")
REFUSED = {name: NO_KERNELS.format(name.removesuffix("_layer")) for name in WITHOUT}
REFUSED["subclassed"] = r"'subclassed_net' \(TwoLayerNet\): expected a Sequential or functional model"


@pytest.mark.parametrize("name", zoo.ZOO)
def test_the_zoo_is_equalized_or_refused_and_never_changed(name):
    model, x = spread(zoo.ZOO[name]()), zoo.sample(name, 32)
    if name in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[name]):
            tg.equalize(model)
        return
    result = tg.equalize(model)
    same(model, result, x)
    assert not in_int8(result, x).float_operators


def test_compressed_models_and_no_models_are_named():
    with pytest.raises(ValueError, match="layer 'hidden' \\(Dense\\).*strip"):
        tg.equalize(tg.prune(zoo.functional(), tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0))))
    with pytest.raises(TypeError, match="a keras.Model.*received str"):
        tg.equalize("model.keras")
    with pytest.raises(ValueError, match="'unbuilt'"):
        tg.equalize(keras.Sequential([layers.Dense(2)], name="unbuilt"))
    with pytest.raises(ValueError, match="model 'plain'.*no layer with a kernel"):
        tg.equalize(keras.Sequential([keras.Input((3,)), layers.ReLU()], name="plain"))
