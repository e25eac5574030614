"""What the converter lacks, or rounds wrongly, is written in other operations: models with categories convert."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tests.quantized import error_in_scales

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(64, 4)).astype("float32")
IDS = RNG.integers(0, 5, (64, 4)).astype("int32")


class OneHot(layers.Layer):
    """Takes ids as floats, as a model with one input for all its features does."""

    def call(self, x):
        return ops.one_hot(ops.cast(x, "int32"), 5)


def bins(mode):
    return layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0], output_mode=mode)


CASES = {
    "bins": (lambda x: layers.Flatten()(bins("one_hot")(x)), REAL),
    "bins counted": (bins("count"), REAL),
    "category": (layers.CategoryEncoding(5, output_mode="one_hot"), IDS[:, :1]),
    "categories": (layers.CategoryEncoding(5, output_mode="multi_hot"), IDS),
    "operation": (lambda x: layers.Flatten()(ops.one_hot(x, 5)), IDS),
    "own layer": (lambda x: layers.Flatten()(OneHot()(x)), IDS.astype("float32")),
    "argmax": (lambda x: ops.one_hot(ops.argmax(layers.Dense(6)(x), -1), 6), REAL),
}


def model_of(name):
    keras.utils.set_random_seed(0)
    make, x = CASES[name]
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(8, "relu")(make(inputs)))), x


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_models_with_categories_convert_in_floats_and_integers(name):
    model, x = model_of(name)
    expected = np.asarray(model(x))
    np.testing.assert_allclose(tg.convert(model).predict(x), expected, atol=1e-5)
    files = [tg.convert(model, quantization="int8", calibration_data=x)]
    if name in ("bins", "category", "argmax"):
        files.append(tg.convert(tg.quantize(model, calibration_data=x), quantization="int8"))
    if name in ("category", "bins counted"):
        files.append(tg.convert(model, quantization="int16x8", calibration_data=x))
    for lite in files:
        assert np.abs(lite.predict(x) - expected).max() < 3 * np.ptp(expected) / 255


@pytest.mark.parametrize("axis", [-1, None])
@pytest.mark.parametrize("find", [ops.argmax, ops.argmin])
def test_argmax_is_one_operator(find, axis):
    inputs = keras.Input((4,))
    lite = tg.convert(keras.Model(inputs, ops.reshape(find(inputs, axis), (1,))))
    assert lite.operators["ARG_MAX" if find is ops.argmax else "ARG_MIN"] == 1 and "SELECT_V2" not in lite.operators
    numpy = np.argmax if find is ops.argmax else np.argmin
    np.testing.assert_array_equal(lite.predict(REAL).ravel(), numpy(REAL, -1))


def test_a_choice_before_argmax_that_is_not_about_zeros_stays():
    inputs = keras.Input((4,))
    chosen = ops.where(ops.logical_and(inputs < 0, inputs > -1), 9.0, inputs)
    lite = tg.convert(keras.Model(inputs, ops.argmax(chosen, -1)))
    expected = np.where((REAL < 0) & (REAL > -1), 9, REAL).argmax(-1)
    np.testing.assert_array_equal(lite.predict(REAL), expected)


def test_floats_that_become_integers_are_not_rounded_before():
    inputs = keras.Input((4,))
    shifted = ops.cast(ops.reshape(layers.Dense(4, kernel_initializer="identity")(inputs), (-1, 2, 2)), "int32")
    model = keras.Model(inputs, [ops.cast(shifted, "float32"), layers.Dense(2)(inputs)])
    x = np.repeat(np.arange(64.0, dtype="float32")[:, None] * 7, 4, 1)
    lite = tg.convert(model, quantization="int8", calibration_data=x)
    assert np.abs(lite.predict(x)[0] - np.asarray(model(x)[0])).max() <= 2


def siamese(x):
    """A layer that is called twice has one range."""
    conv, flat = layers.Conv1D(2, 2, activation="relu"), layers.Flatten()
    return flat(conv(x[:, :3])) - flat(conv(x[:, 1:]))


def gated(x):
    """All sigmoids have one range."""
    return layers.Multiply()([layers.Flatten()(layers.Dense(3, "sigmoid")(x)) for _ in range(2)])


def turned(x):
    return layers.Reshape((3, 4))(layers.Dense(3, "relu")(x))


TWICE = {
    "sum": (lambda x: (lambda y: layers.Add()([y, y]))(turned(x)), "ADD"),
    "power": (lambda x: ops.power(turned(x), 2.0), "MUL"),
    "siamese": (siamese, "SUB"),
    "gated": (gated, "MUL"),
}


@pytest.mark.parametrize("name", TWICE)
def test_two_reshaped_tensors_of_one_range_are_added_or_multiplied_in_integers(name):
    make, operator = TWICE[name]
    inputs = keras.Input((4, 4))
    model = keras.Model(inputs, layers.Dense(3)(make(inputs)))
    x = RNG.normal(size=(64, 4, 4)).astype("float32")
    trained = tg.quantize(model, calibration_data=x)
    lite = tg.convert(trained, quantization="int8")
    assert lite.operators[operator] == 1 and (lite.operators["QUANTIZE"], lite.operators["DEQUANTIZE"]) == (1, 1)
    assert error_in_scales(trained, lite, x) < 0.05


@pytest.mark.parametrize("width", [8, 4])
@pytest.mark.parametrize("trains", [False, True])
def test_a_column_is_added_along_its_own_axis(width, trains):
    inputs = keras.Input((8, width))
    column = layers.Dense(1, name="column")(inputs)  # of one sample (1, 8, 1), which Keras adds as a bias
    model = keras.Model(inputs, {"op": inputs + column, "layer": layers.Add()([layers.Dense(width)(inputs), column])})
    x = np.random.default_rng(0).normal(size=(64, 8, width)).astype("float32")
    if not trains:
        assert tg.verify(model, tg.convert(model), x).passed
    model = tg.quantize(model, calibration_data=x) if trains else model
    assert tg.verify(model, tg.convert(model, quantization="int8", calibration_data=x), x).passed


def test_a_weight_is_added_as_keras_adds_it():
    class Shift(layers.Layer):
        def build(self, shape):
            self.shift = self.add_weight(shape=(1, 8, 1), initializer="random_normal")

        def call(self, x):
            return x + self.shift

    inputs = keras.Input((8, 4))
    model, x = keras.Model(inputs, Shift()(inputs)), np.random.default_rng(0).normal(size=(16, 8, 4)).astype("float32")
    lite = tg.convert(model)
    np.testing.assert_allclose(lite.predict(x), x + model.layers[-1].shift.numpy(), rtol=1e-5, atol=1e-6)
    assert tg.verify(model, lite, x).passed


UNCHANGED = {
    "sums": lambda h, g: layers.Concatenate()([h - 0.0, 0.0 + g]),
    "products": lambda h, g: layers.Concatenate()([h * 1.0, g / 1.0]),
    "twice": lambda h, g: (h - 0.0) + h * 1.0,
    "where": lambda h, g: ops.where(h > 0, h * 0.5, g),
    "where of a constant": lambda h, g: ops.where(g > 0, h, 0.0),
}


@pytest.mark.parametrize("make", UNCHANGED.values(), ids=UNCHANGED)
def test_what_takes_one_scale_gets_it_after_training(make):
    inputs = keras.Input((4,))
    h, g = layers.Dense(6)(inputs), layers.Dense(6, "tanh")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(make(h, g)))
    trained = tg.quantize(model, calibration_data=REAL)
    hooks = [layer.activations for layer in trained.layers if getattr(layer, "activations", None) is not None]
    for number, range_ in enumerate(range_ for hook in hooks for range_ in hook.ranges()):
        lower, upper = range_.numbers()
        range_.set(lower * (1 + 0.03 * number), upper * (1 + 0.02 * number))  # as training moves each
    lite = tg.convert(trained, quantization="int8")
    assert error_in_scales(trained, lite, REAL) <= 1.5 and not lite.float_operators


def moved(x):
    return ops.transpose(ops.reshape(x, (-1, 3, 2)), (0, 2, 1))


TWICE_IN_A_ROW = {  # what Keras rounds after an operation that the converter leaves out, or that only moves numbers
    "mean of a mean": lambda x: layers.GlobalAveragePooling2D()(layers.AveragePooling2D(3)(x)),
    "sum over size 1": lambda x: ops.sum(layers.Dense(3)(x[:, 0, 0])[:, None], axis=1),
    "cumulative sum": lambda x: ops.cumsum(layers.Dense(3)(x[:, 0, 0])[:, None], axis=1)[:, 0],
    "rescaling by 1": lambda x: layers.Rescaling(1.0)(layers.Dense(3)(x[:, 0, 0])),
    "normalization by 1": lambda x: layers.Flatten()(layers.Normalization(mean=1.0, variance=1.0)(x)),
    "power of 1": lambda x: ops.power(layers.Dense(3)(x[:, 0, 0]), 1.0),
    "linear activation": lambda x: layers.Activation("linear")(layers.Reshape((18,))(x)),
    "own layer": lambda x: layers.Flatten()(layers.Lambda(moved)(layers.Dense(6)(layers.Flatten()(x)))),
}


@pytest.mark.parametrize("make", TWICE_IN_A_ROW.values(), ids=TWICE_IN_A_ROW)
def test_two_ranges_in_a_row_convert_after_training(make):
    inputs = keras.Input((3, 3, 2))
    model = keras.Model(inputs, layers.RepeatVector(2)(make(inputs)))
    x = RNG.normal(size=(64, 3, 3, 2)).astype("float32")
    trained = tg.quantize(model, calibration_data=x)
    hooks = [layer.activations for layer in trained.layers if getattr(layer, "activations", None) is not None]
    for number, range_ in enumerate(range_ for hook in hooks for range_ in hook.ranges()):
        lower, upper = range_.numbers()
        range_.set(lower * (1 + 0.03 * number), upper * (1 + 0.02 * number))
    lite = tg.convert(trained, quantization="int8")
    assert error_in_scales(trained, lite, x) <= 0.2 and not lite.float_operators


FLOAT_STEPS = {
    "sequences": lambda x: layers.SimpleRNN(5, return_sequences=True)(x),
    "last with itself": lambda x: (lambda y: layers.Concatenate()([y, y]))(layers.SimpleRNN(5)(x)),
    "both ways": lambda x: layers.Bidirectional(layers.SimpleRNN(3, return_sequences=True))(x),
    "two kinds": lambda x: layers.Concatenate()(
        [cell(4, return_sequences=True, go_backwards=True)(x) for cell in (layers.GRU, layers.LSTM, layers.SimpleRNN)]
    ),
}


@pytest.mark.parametrize("make", FLOAT_STEPS.values(), ids=FLOAT_STEPS)
def test_what_stays_in_floats_is_not_rounded_before_it_ends(make):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(make(inputs))))
    x = RNG.normal(size=(64, 3, 4)).astype("float32")
    trained = tg.quantize(model, calibration_data=x)
    assert error_in_scales(trained, tg.convert(trained, quantization="int8"), x) <= 0.02


def test_an_operator_that_litert_lacks_is_named_after_training_too():
    inputs = keras.Input((4,))
    h = layers.Dense(6)(inputs)
    model = keras.Model(inputs, layers.Dense(2)(ops.where(h > 0, ops.erf(h), h)))
    with pytest.raises(tg.ConversionError, match="Erf, for which LiteRT has no operator. Compute it outside"):
        tg.convert(tg.quantize(model, calibration_data=REAL), quantization="int8")


def attended(kind):
    """Attention in which a mask leaves scores out: its own, a choice or a sum of a user's, constant or of an input."""
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 8))
    length = keras.Input((6,), dtype="int32", name="mask")
    if kind == "causal":
        y = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    elif kind == "padding":
        y = layers.MultiHeadAttention(2, 4)(x, x, attention_mask=length[:, None, :] > 0)
    else:
        scores = ops.matmul(layers.Dense(8)(x), ops.transpose(layers.Dense(8)(x), (0, 2, 1)))
        seen = ops.cast(length[:, None, :], "float32")
        if kind == "sum":
            scores = scores + (1 - seen) * -1e9
        elif kind == "two":
            scores = ops.where(seen > 0, scores + np.where(np.tri(6), 0.0, -1e9).astype("float32"), -1e9)
        elif kind == "chosen sum":
            scores = scores + ops.where(seen > 0, 0.0, -1e9)
        elif kind == "least":
            scores = ops.where(seen > 0, scores, float(np.finfo("float32").min))
        else:
            scores = scores + np.where(np.tri(6), 0.0, -1e9).astype("float32")
        y = ops.matmul(ops.softmax(scores), layers.Dense(8)(x))
    model = keras.Model([x, length], layers.Dense(4)(y) + 0.0 * ops.cast(length, "float32")[:, :, None])
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 7, 256)
    return model, [rng.normal(size=(256, 6, 8)).astype("float32"), (np.arange(6) < lengths[:, None]).astype("int32")]


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
@pytest.mark.parametrize("kind", ["causal", "padding", "sum", "chosen sum", "least", "constant", "two"])
def test_masked_scores_leave_the_others_their_range(kind, mode):
    model, x = attended(kind)
    expected = np.asarray(model(x), np.float64)
    got = tg.convert(model, quantization=mode, calibration_data=x).predict(x)
    noise = np.square(expected - got).mean() / np.square(expected - expected.mean(0)).mean()
    assert -10 * np.log10(noise) > 25


@pytest.mark.filterwarnings("ignore:The file is far")  # x may get the range of what else reads it, which is said
def test_who_else_reads_masked_scores_reads_them_as_they_are():
    x = keras.Input((6,))
    scores = ops.where(x > 0, x, -1e9)
    model = keras.Model(x, [ops.softmax(scores), ops.min(scores, axis=-1)])
    data = np.random.default_rng(2).normal(size=(64, 6)).astype("float32")
    lite = tg.convert(model, quantization="int8", calibration_data=data)
    assert lite.predict(data)[1].min() == pytest.approx(-1e9, rel=0.01)
