"""A quantized model against its int8 file: the same operators, integers, ranges and outputs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tests import zoo
from tests.quantized import error_in_scales, fitted, in_int8, normal, quantized, ranges_of, varied

CONV_NETS = ("sequential", "residual", "concat", "separable", "nested", "shared_layer", "multi_io", "batchnorm")
FLOAT = {  # models that LiteRT cannot compute in integers without data, and the layers to blame
    "lstm": {"lstm", "bidirectional"},
    "attention": {"layer_normalization"},
}


def floats(model: keras.Model) -> set[str]:
    """Layers of which the report says that they compute in float."""
    words = ("float32", "int8", "Keras's own")
    return {s.layer for s in tg.summary(model).weights if any(word in s.reason for word in words)}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in zoo.mostly_slow() if name != "subclassed"])
def test_the_file_needs_no_data_is_integer_and_computes_as_the_trained_model_does(name):
    model = fitted(quantized(varied(zoo.ZOO[name]()), zoo.sample(name, 64)), name)
    lite = in_int8(model)
    assert bool(lite.float_operators) == (name in FLOAT)
    assert floats(model) == FLOAT.get(name, set()) | ({"scaled"} if name == "custom_layer" else set())
    apart = error_in_scales(model, lite, zoo.sample(name, 64, seed=7))
    assert apart <= {"custom_layer": 0.6, "lstm": 0.25, "attention": 0.25}.get(name, 0.05)


def test_a_subclassed_model_rounds_its_weights_and_is_calibrated_when_it_is_converted():
    x = zoo.sample("subclassed", 64)
    model = fitted(tg.quantize(zoo.subclassed(), tg.QuantizeConfig()), "subclassed")
    assert {chain.weight for chain in model.compressed.chains} == {"blocks/0/kernel", "blocks/1/kernel", "head/kernel"}
    lite = in_int8(model, x)
    assert not lite.float_operators and error_in_scales(model, lite, x) <= 0.5


def image(body, *shape: int):
    """A model of one input, and data for it."""

    def build():
        inputs = keras.Input(shape or (8, 8, 4))
        return varied(keras.Model(inputs, body(inputs))), normal(*inputs.shape[1:], count=32)

    return build


def conv(x, *args, **options):
    return layers.Conv2D(*(args or (4, 3)), padding="same", **options)(x)


def squeeze_and_excite(x):
    x = conv(x, 8, 3, activation="relu")
    weight = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return layers.Multiply()([x, conv(conv(weight, 2, 1, activation="relu"), 8, 1, activation="sigmoid")])


def split(x):
    a, b = ops.split(conv(x), 2, axis=-1)
    return conv(a) + conv(b)


@keras.saving.register_keras_serializable(package="tests")
class Named(layers.Conv2D):
    """A subclass that changes nothing."""


INTEGER = {
    "conv1d": image(lambda x: layers.Conv1D(3, 3, activation="relu")(layers.Conv1D(4, 3)(x)), 9, 4),
    "conv1d causal, norm": image(
        lambda x: layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(4, 3, padding="causal")(x))), 9, 4
    ),
    "depthwise 1d": image(lambda x: layers.DepthwiseConv1D(3, activation="relu")(x), 9, 4),
    "depthwise with a multiplier": image(lambda x: layers.DepthwiseConv2D(3, depth_multiplier=2)(x)),
    "separable 1d": image(lambda x: layers.SeparableConv1D(4, 3, activation="silu")(x), 9, 4),
    "groups, dilation": image(lambda x: conv(conv(x, 8, 3, groups=2), 4, 3, dilation_rate=2)),
    "transposed": image(lambda x: layers.Conv2DTranspose(3, 3, strides=2, activation="relu")(x)),
    "transposed 1d": image(lambda x: layers.Conv1DTranspose(3, 3, strides=2, activation="relu")(x), 8, 4),
    "dense in three dimensions": image(lambda x: layers.Dense(3)(layers.Dense(5, "relu")(x)), 5, 4),
    "einsum": image(lambda x: layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d")(x), 5, 4),
    "einsum of two axes, norm": image(
        lambda x: layers.BatchNormalization()(layers.EinsumDense("abc,cde->abde", (None, 2, 3))(x)), 5, 4
    ),
    "pooling 1d": image(
        lambda x: layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.MaxPooling1D()(layers.Conv1D(4, 3)(x)))), 16, 4
    ),
    "average pooling 1d": image(
        lambda x: layers.Conv1D(3, 3)(layers.AveragePooling1D(2)(layers.Conv1D(4, 3)(x))), 16, 4
    ),
    "upsampling": image(lambda x: conv(layers.UpSampling2D()(conv(x)))),
    "upsampling 1d": image(lambda x: layers.Conv1D(3, 3)(layers.UpSampling1D()(layers.Conv1D(4, 3)(x))), 8, 4),
    "rescaling": image(lambda x: conv(layers.Rescaling(1 / 127.5, offset=-1.0)(x))),
    "norm first": image(lambda x: conv(layers.ReLU()(layers.BatchNormalization()(x)))),
    "norm after relu": image(lambda x: conv(layers.BatchNormalization()(conv(x, activation="relu")))),
    "norm over another axis": image(lambda x: layers.BatchNormalization(axis=1)(conv(x))),
    "conv, dropout, relu": image(lambda x: conv(layers.ReLU()(layers.Dropout(0.1)(conv(x))))),
    "relu up to 4": image(lambda x: conv(layers.ReLU(4.0)(conv(x)))),
    "x + y, x - y": image(lambda x: conv(conv(x) + x) - x),
    "x * 2, 1 - x, x / 4": image(lambda x: conv(1.0 - conv(x) * 2) / 4),
    "x[:, 0]": image(lambda x: layers.Dense(3)(conv(x)[:, 0])),
    "ops": image(lambda x: layers.Dense(3)(ops.mean(ops.silu(conv(x)), axis=(1, 2)))),
    "split": image(split),
    "a relu of keras.activations": image(lambda x: conv(keras.activations.relu(conv(x)))),
    "silu": image(lambda x: conv(layers.Activation("silu")(conv(x)))),
    "hard_sigmoid": image(lambda x: conv(conv(x, activation="hard_sigmoid"))),
    "gelu": image(lambda x: conv(conv(x, activation="gelu"))),
    "tanh": image(lambda x: conv(conv(x, activation="tanh"))),
    "prelu": image(lambda x: conv(layers.PReLU()(conv(x)))),
    "squeeze and excite": image(squeeze_and_excite),
    "add and multiply of 3": image(
        lambda x: layers.Multiply()([conv(x), conv(x), layers.Add()([conv(x), conv(x), x])])
    ),
    "average of 3": image(lambda x: conv(layers.Average()([conv(x), conv(x), x]))),
    "dot": image(lambda x: layers.Dot(-1)([layers.Dense(4)(x), layers.Dense(4)(x)]), 6),
    "a subclass": image(lambda x: conv(Named(4, 3, padding="same", activation="silu")(x))),
    "TimeDistributed": image(lambda x: layers.TimeDistributed(layers.Dense(3, "relu"))(x), 5, 4),
    "Embedding": lambda: (
        keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(9, 4), layers.Flatten(), layers.Dense(3)]),
        np.random.default_rng(0).integers(0, 9, (32, 6)),
    ),
}


# Here LiteRT's kernels approximate: they multiply by 8 bits of a factor when they change a scale.
APPROXIMATE = {
    "leaky relu": image(lambda x: conv(layers.LeakyReLU()(conv(x)))),
    "bilinear upsampling": image(lambda x: conv(layers.UpSampling2D(interpolation="bilinear")(conv(x)))),
    "maximum": image(lambda x: conv(layers.Maximum()([conv(x), x]))),
    "concat of a feeder used elsewhere": image(
        lambda x: (lambda a, b: conv(layers.Concatenate()([conv(layers.Concatenate()([a, b])), a])))(conv(x), conv(x))
    ),
    "concat of pooled": image(
        lambda x: layers.Concatenate()([layers.MaxPooling2D()(conv(x)), layers.AveragePooling2D(2)(conv(x))])
    ),
    "concat of softmax": image(lambda x: layers.Concatenate()([layers.Dense(3, "softmax")(x), layers.Dense(3)(x)]), 6),
    "normalization": image(
        lambda x: conv(layers.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 4.0])(x))
    ),
}


@pytest.mark.parametrize("name", zoo.one_in(4, [*INTEGER, *APPROXIMATE]))
def test_layers_that_compute_in_integers_do_so_in_the_file_and_alike(name):
    model, x = {**INTEGER, **APPROXIMATE}[name]()
    model = quantized(model, x, strict=True)
    lite = in_int8(model)
    assert lite.float_operators == []
    assert error_in_scales(model, lite, x) <= (0.05 if name in INTEGER else 0.5)


@keras.saving.register_keras_serializable(package="tests")
class Centred(layers.Conv2D):
    """A subclass that computes with another kernel than it stores."""

    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - ops.mean(kernel))


# layer -> operators that are float, and a word of the reason
STAYS_FLOAT = {
    "Conv3D": (image(lambda x: layers.Conv3D(2, 2, name="it")(x), 4, 4, 4, 2), "CONV_3D", "no int8 kernel"),
    "LSTM": (image(lambda x: layers.LSTM(2, name="it")(x), 4, 3), "TANH", "steps run in float32"),
    "GRU": (image(lambda x: layers.GRU(2, name="it")(x), 4, 3), "TANH", "steps run in float32"),
    "Bidirectional": (
        image(lambda x: layers.Bidirectional(layers.GRU(2), name="it")(x), 4, 3), "TANH", "steps run in float32"
    ),
    "LayerNormalization": (image(lambda x: layers.LayerNormalization(name="it")(x), 6), "RSQRT", "mean, variance"),
    "GroupNormalization": (image(lambda x: layers.GroupNormalization(2, name="it")(x), 4, 4), "RSQRT", "variance"),
    "mish": (image(lambda x: layers.Dense(3, "mish", name="it")(x), 6), "TANH", "activation 'mish'"),
    "elu": (image(lambda x: layers.ELU(name="it")(layers.Dense(3)(x)), 6), "ELU", "float32"),
    "-x": (image(lambda x: -layers.Dense(3)(x), 6), "NEG", "no int8 kernel"),
    "a convolution of its own": (
        image(lambda x: Centred(3, 3, activation="silu", name="it")(x)), "CONV_2D", "Keras's own"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("build, operator, reason", STAYS_FLOAT.values(), ids=STAYS_FLOAT)
def test_layers_that_stay_float_are_reported_and_refused_if_strict(build, operator, reason, tmp_path):
    model, x = build()
    result = quantized(model, x)
    lite = in_int8(result)
    assert operator in lite.float_operators
    assert error_in_scales(result, lite, x) <= 0.5
    result.save(tmp_path / "m.keras")
    for one in (result, keras.models.load_model(tmp_path / "m.keras")):
        assert any(reason in status.reason for status in tg.summary(one).weights)
        assert reason in str(tg.summary(one))
    with pytest.raises(ValueError, match=r"(layer 'it'|operation 'negative').*integers \(strict=True\).*" + reason):
        quantized(model, x, strict=True)


def integers(layer: keras.Layer) -> np.ndarray:
    """A kernel of a quantized model as integers with a scale for each output channel, the channels first."""
    kernel = keras.ops.convert_to_numpy(layer.chains[0].apply(layer.layer.kernel.value))
    channels_first = np.moveaxis(kernel, -1, 0)
    scale = np.abs(channels_first).reshape(len(channels_first), -1).max(1) / 127
    return np.round(channels_first / scale.reshape(-1, *[1] * (kernel.ndim - 1)))


@pytest.mark.slow
def test_weights_are_the_integers_that_the_keras_side_rounds_to():
    model = fitted(quantized(varied(zoo.residual()), zoo.sample("residual", 64)), "residual", epochs=2)
    stored = [weight.values for weight in in_int8(model).weights.values()]
    for name in ("conv2d_1", "dense"):  # conv2d has its norm merged into it
        assert any(np.array_equal(values, integers(model.get_layer(name))) for values in stored)


@pytest.mark.slow
def test_trained_ranges_are_those_of_the_file():
    model = fitted(quantized(varied(zoo.residual()), zoo.sample("residual", 64)), "residual", epochs=2)
    details = in_int8(model).new_interpreter().get_tensor_details()
    stored = [tensor["quantization"] for tensor in details if tensor["dtype"] == np.int8]
    for name, (lower, upper) in ranges_of(model).items():
        step = (upper - lower) / 255
        wanted = (pytest.approx(step, rel=1e-5), round(-128 - lower / step))
        assert wanted in stored, name


def test_an_untrained_model_scores_what_post_training_quantization_does():
    x, y = zoo.sample("residual", 256), zoo.targets("residual", 256)
    model = varied(zoo.residual())
    model.compile("adam", zoo.loss("residual"))
    model.fit(x, y, epochs=5, verbose=0)
    after_training = tg.convert(model, tg.ConvertConfig(quantization="int8", calibration_data=x))
    reference = model.predict(x, verbose=0)
    ours = quantized(model, x).predict(x, verbose=0)
    error = np.abs(after_training.predict(x) - reference).mean()
    assert np.abs(ours - reference).mean() <= 1.2 * error
    assert (ours.argmax(-1) == reference.argmax(-1)).mean() >= 0.97


def test_the_model_passed_in_is_untouched_and_strip_gives_plain_layers_back():
    model, x = varied(zoo.residual()), zoo.sample("residual")
    before = [weight.copy() for weight in model.get_weights()]
    result = fitted(quantized(model, x), "residual")
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    plain = tg.strip(result)
    assert [type(layer).__name__ for layer in plain.layers] == [type(layer).__name__ for layer in model.layers]
    again = quantized(plain, x)
    kernel = again.get_layer("conv2d").chains[0].apply(again.get_layer("conv2d").layer.kernel.value)
    np.testing.assert_allclose(kernel, plain.get_layer("conv2d").kernel, atol=1e-6)  # its integers are found again


@pytest.mark.parametrize(
    "shape, pooling",
    [((8, 8, 6), keras.layers.AveragePooling2D(8)), ((12, 6), keras.layers.AveragePooling1D(12, padding="same"))],
    ids=["2d", "1d"],
)
def test_an_average_of_a_whole_map_has_a_range_of_its_own(shape, pooling):
    """In the range of a map with one large value the small averages would be rounded away."""
    relu, flatten = keras.layers.ReLU(), keras.layers.Flatten()
    model = keras.Sequential([keras.Input(shape), relu, pooling, flatten, keras.layers.Dense(3, name="out")])
    x = np.random.default_rng(0).normal(size=(64, *shape)).astype("float32")
    x[:, 0, ..., 0] *= 30
    result = quantized(model, x)
    lite = in_int8(result)
    assert lite.operators.get("MEAN") == 1 and "AVERAGE_POOL_2D" not in lite.operators and not lite.float_operators
    step = lite.output_scales["out"]
    assert np.abs(lite.predict(x) - result.predict(x, verbose=0)).mean() <= 0.05 * step
    means = np.maximum(x, 0).mean(axis=tuple(range(1, x.ndim - 1)))
    assert ranges_of(result)[f"{pooling.name}/output"][1] == pytest.approx(means.max(), rel=0.1)


def test_an_average_of_part_of_a_map_keeps_the_range_of_its_input():
    layers = [keras.layers.AveragePooling2D(8, strides=1), keras.layers.Flatten(), keras.layers.Dense(3, name="out")]
    model = keras.Sequential([keras.Input((9, 9, 4)), keras.layers.ReLU(), *layers])
    x = np.random.default_rng(0).normal(size=(64, 9, 9, 4)).astype("float32")
    lite = in_int8(quantized(model, x))
    assert lite.operators["AVERAGE_POOL_2D"] == 1 and not lite.float_operators


@pytest.mark.slow
@pytest.mark.parametrize("before", ["inputs", "dense"])
@pytest.mark.parametrize("kind", ["MultiHeadAttention", "GroupQueryAttention"])
def test_attention_of_one_tensor_to_another_converts(kind, before):
    made = {
        "MultiHeadAttention": lambda: layers.MultiHeadAttention(2, 4, name="attend"),
        "GroupQueryAttention": lambda: layers.GroupQueryAttention(4, 2, 1, name="attend"),
    }[kind]()
    inputs = {name: keras.Input((6, 4), name=name) for name in ("query", "memory")}
    tensors = [layers.Dense(4)(x) if before == "dense" else x for x in inputs.values()]
    model = keras.Model(inputs, layers.Dense(3, name="out")(made(tensors[0], value=tensors[1])))
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(64, 6, 4)).astype("float32") for name in inputs}
    result = quantized(model, x)
    expected = result.predict(x, verbose=0)
    for calibration, limit in ((None, 0.2), (x, 1.0)):
        lite = in_int8(result, calibration)
        assert not lite.float_operators
        assert np.abs(lite.predict(x) - expected).mean() <= limit * lite.output_scales["out"]


@pytest.mark.parametrize("first, second", [(1e-30, 1.0), (1.0, 1e-30), (1e-30, 1e30), (1e30, 1e-30), (1e18, 1e18)])
def test_weights_of_any_magnitude_are_rounded_not_lost(first, second):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(4)])
    for layer, factor in zip(model.layers, (first, second)):
        layer.kernel.assign(layer.kernel * factor)
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    nets = model, tg.quantize(model, calibration_data=x)
    expected, got = (net.predict(x, verbose=0).astype("float64") for net in nets)
    assert 0 < np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 0.03
