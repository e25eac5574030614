"""A quantized model against its int8 file: the same operators, integers, ranges and outputs; and its training."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tests import zoo
from tests.quantized import in_int8, normal, quantized, steps_apart, varied
from tfgreen.transforms.layers import compressed_layers

CONV_NETS = ("sequential", "residual", "concat", "separable", "nested", "shared_layer", "multi_io", "batchnorm")
FLOAT = {  # models that LiteRT cannot compute in integers without data, and the layers to blame
    "lstm": {"lstm", "bidirectional"},
    "attention": {"multi_head_attention", "layer_normalization"},
}


def fitted(model: keras.Model, name: str, epochs: int = 1, **options) -> keras.Model:
    model.compile(keras.optimizers.Adam(1e-2), zoo.loss(name), **options)
    data = zoo.sample(name, 32), zoo.targets(name, 32)
    model.fit(*data, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=[tg.UpdateCompression()])
    return model


def ranges_of(model: keras.Model) -> dict[str, tuple[float, float]]:
    return {
        f"{path}/{range_.name}": tuple(float(end) for end in range_.ends())
        for path, layer in compressed_layers(model)
        if layer.activations is not None
        for range_ in layer.activations.ranges()
    }


def floats(model: keras.Model) -> set[str]:
    """Layers of which the report says that they compute in float."""
    return {s.layer for s in tg.report(model).weights if "float32" in s.reason or "int8" in s.reason or "own" in s.reason}


@pytest.mark.parametrize("name", [name for name in zoo.ZOO if name != "subclassed"])
def test_the_file_needs_no_data_is_integer_and_computes_as_the_trained_model_does(name):
    model = fitted(quantized(varied(zoo.ZOO[name]()), zoo.sample(name, 64)), name)
    lite = in_int8(model)
    assert bool(lite.float_operators) == (name in FLOAT)
    assert floats(model) == FLOAT.get(name, set()) | ({"scaled"} if name == "custom_layer" else set())
    apart = steps_apart(model, lite, zoo.sample(name, 64, seed=7))
    assert apart <= (0.05 if name in CONV_NETS else 1.0)


def test_a_subclassed_model_rounds_its_weights_and_is_calibrated_when_it_is_converted():
    x = zoo.sample("subclassed", 64)
    model = fitted(tg.quantize(zoo.subclassed(), tg.QuantizeConfig()), "subclassed")
    assert {chain.weight for chain in model.compressed.chains} == {"blocks/0/kernel", "blocks/1/kernel", "head/kernel"}
    lite = in_int8(model, x)
    assert not lite.float_operators and steps_apart(model, lite, x) <= 1.0


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
    "average pooling 1d": image(lambda x: layers.Conv1D(3, 3)(layers.AveragePooling1D(2)(layers.Conv1D(4, 3)(x))), 16, 4),
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
    "add and multiply of 3": image(lambda x: layers.Multiply()([conv(x), conv(x), layers.Add()([conv(x), conv(x), x])])),
    "average of 3": image(lambda x: conv(layers.Average()([conv(x), conv(x), x]))),
    "dot": image(lambda x: layers.Dot(-1)([layers.Dense(4)(x), layers.Dense(4)(x)]), 6),
    "a subclass": image(lambda x: conv(Named(4, 3, padding="same", activation="silu")(x))),
    "TimeDistributed": image(lambda x: layers.TimeDistributed(layers.Dense(3, "relu"))(x), 5, 4),
    "Embedding": lambda: (
        keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(9, 4), layers.Flatten(), layers.Dense(3)]),
        np.random.default_rng(0).integers(0, 9, (32, 6)),
    ),
}


@pytest.mark.parametrize("build", INTEGER.values(), ids=INTEGER)
def test_layers_that_compute_in_integers_do_so_in_the_file_and_alike(build):
    model, x = build()
    model = quantized(model, x, strict=True)
    lite = in_int8(model)
    assert lite.float_operators == []
    assert steps_apart(model, lite, x) <= 0.05


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


@pytest.mark.parametrize("build", APPROXIMATE.values(), ids=APPROXIMATE)
def test_layers_that_litert_approximates_are_integer_and_close(build):
    model, x = build()
    model = quantized(model, x, strict=True)
    lite = in_int8(model)
    assert lite.float_operators == []
    assert steps_apart(model, lite, x) <= 0.5


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
    "MHA": (image(lambda x: layers.MultiHeadAttention(1, 2, name="it")(x, x), 4, 3), "SOFTMAX", "between its kernels"),
    "LayerNormalization": (image(lambda x: layers.LayerNormalization(name="it")(x), 6), "RSQRT", "mean and variance"),
    "GroupNormalization": (image(lambda x: layers.GroupNormalization(2, name="it")(x), 4, 4), "RSQRT", "mean and"),
    "mish": (image(lambda x: layers.Dense(3, "mish", name="it")(x), 6), "TANH", "activation 'mish'"),
    "elu": (image(lambda x: layers.ELU(name="it")(layers.Dense(3)(x)), 6), "ELU", "float32"),
    "-x": (image(lambda x: -layers.Dense(3)(x), 6), "NEG", "no int8 kernel"),
    "a convolution of its own": (image(lambda x: Centred(3, 3, activation="silu", name="it")(x)), "CONV_2D", "Keras's own"),
}


@pytest.mark.parametrize("build, operator, reason", STAYS_FLOAT.values(), ids=STAYS_FLOAT)
def test_layers_that_stay_float_are_reported_and_refused_if_strict(build, operator, reason, tmp_path):
    model, x = build()
    result = quantized(model, x)
    lite = in_int8(result)
    assert operator in lite.float_operators
    assert steps_apart(result, lite, x) <= 1.0
    result.save(tmp_path / "m.keras")
    for one in (result, keras.models.load_model(tmp_path / "m.keras")):
        assert any(reason in status.reason for status in tg.report(one).weights)
        assert reason in str(tg.report(one))
    with pytest.raises(ValueError, match=r"(layer 'it'|operation 'negative').*integers \(strict=True\).*" + reason):
        quantized(model, x, strict=True)


def test_weights_are_the_integers_that_the_keras_side_rounds_to_and_ranges_are_those_of_the_file():
    model = fitted(quantized(varied(zoo.residual()), zoo.sample("residual", 64)), "residual", epochs=2)
    lite = in_int8(model)
    found = {weight.values.shape: weight for weight in lite.weights.values()}
    layer = model.get_layer("conv2d_1")
    rounded = keras.ops.convert_to_numpy(layer.chains[0].apply(layer.layer.kernel.value))
    scale = np.abs(rounded).max((0, 1, 2)) / 127
    in_file = found[(4, 3, 3, 4)]  # conv2d has its norm folded into it, but the same shape: compare by the values
    same = [w for w in lite.weights.values() if w.values.shape == in_file.values.shape
            and np.array_equal(w.values, np.round(rounded / scale).transpose(3, 0, 1, 2))]
    assert len(same) == 1 and np.allclose(same[0].scale, scale, rtol=1e-6)

    dense = model.get_layer("dense")
    rounded = keras.ops.convert_to_numpy(dense.chains[0].apply(dense.layer.kernel.value))
    weight = found[(4, 4)]
    scale = np.abs(rounded).max(0) / 127
    np.testing.assert_array_equal(weight.values, np.round(rounded / scale).T)

    tensors = {round(float(t["quantization"][0]), 9): t["quantization"][1] for t in lite.new_interpreter().get_tensor_details()
               if t["dtype"] == np.int8 and len(t["quantization_parameters"]["scales"]) == 1}
    for name, (lower, upper) in ranges_of(model).items():
        step = (upper - lower) / 255
        match = [scale for scale in tensors if abs(scale / step - 1) < 1e-5]
        assert match, (name, lower, upper, tensors)
        assert tensors[match[0]] == round(-128 - lower / step)


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


@pytest.mark.parametrize("ranges", ["moving_average", "learned"])
def test_ranges_and_batch_norm_statistics_move_until_they_are_frozen(ranges, tmp_path):
    model = quantized(varied(zoo.residual()), zoo.sample("residual", 64), ranges=ranges, freeze_after=4)
    norm = model.get_layer("batch_normalization").layer

    def state():
        return [*ranges_of(model).values(), *norm.moving_mean.numpy(), *norm.moving_variance.numpy()]

    start = state()
    fitted(model, "residual")  # four batches
    frozen, gamma = state(), norm.gamma.numpy()
    assert all(a != b for a, b in zip(start[-8:], frozen[-8:])) and frozen[:-8] != start[:-8]
    model.save(tmp_path / "m.keras")
    fitted(model, "residual")
    assert state() == frozen and (norm.gamma.numpy() != gamma).any()
    loaded = fitted(keras.models.load_model(tmp_path / "m.keras"), "residual")
    assert ranges_of(loaded) == ranges_of(model)
    assert steps_apart(loaded, in_int8(loaded), zoo.sample("residual", 32)) <= 0.05


def test_frozen_ranges_need_the_callback_that_counts_and_say_so():
    model = quantized(zoo.residual(), zoo.sample("residual"), freeze_after=4)
    model.compile("adam", zoo.loss("residual"))
    with pytest.warns(UserWarning, match="tg.UpdateCompression"):
        model.fit(zoo.sample("residual"), zoo.targets("residual"), verbose=0)


def test_learned_ranges_get_gradients_and_fixed_ones_stay():
    x = zoo.sample("residual", 32)
    learned = fitted(quantized(zoo.residual(), x, ranges="learned"), "residual")
    widths = [float(v) for v in learned.trainable_variables if v.name == "width"]
    assert len(widths) == 7 and all(width != 1.0 for width in widths)
    fixed = quantized(zoo.residual(), x, ranges="fixed")
    before = ranges_of(fixed)
    assert ranges_of(fitted(fixed, "residual")) == before
    assert len(set(before.values())) > 4


@pytest.mark.parametrize("calibration", ["minmax", "percentile", "mse"])
def test_each_calibration_starts_from_a_range_within_the_extremes(calibration):
    x = zoo.sample("functional", 256)
    model = quantized(zoo.functional(), x, calibration=calibration)
    lower, upper = ranges_of(model)["hidden/input_0"]
    assert x.min() <= lower < 0 < upper <= x.max()
    assert (calibration == "minmax") == (upper == x.max())


def test_calibration_data_may_be_arrays_tensors_a_dataset_or_a_generator():
    import tensorflow as tf

    x, y = zoo.sample("functional", 64), zoo.targets("functional", 64)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(10)
    kinds = [x, tf.constant(x), dataset, (batch for batch in np.split(x, 4)), [x[:32], x[32:]]]
    found = [ranges_of(quantized(zoo.functional(), kind)) for kind in kinds]
    keras.utils.set_random_seed(0)
    first = found[0]
    assert all(one["hidden/input_0"] == first["hidden/input_0"] for one in found)


@keras.saving.register_keras_serializable(package="tests")
class LastBatch(tg.ActivationRange):
    """A range of the user's own: that of the last batch."""

    def __init__(self, margin: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.margin = margin

    def follow(self, x):
        self.lower.assign(self.margin * ops.minimum(ops.min(x), 0.0))
        self.upper.assign(self.margin * ops.maximum(ops.max(x), 0.0))

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}


def test_a_range_of_the_users_own(tmp_path):
    x = zoo.sample("functional", 32)
    model = fitted(quantized(zoo.functional(), x, ranges=LastBatch(margin=1.5)), "functional")
    lower, upper = ranges_of(model)["hidden/input_0"]
    np.testing.assert_allclose((lower, upper), (1.5 * x[-8:].min(), 1.5 * x[-8:].max()), rtol=1e-6)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert ranges_of(loaded) == ranges_of(model) and next(iter(compressed_layers(loaded)))[1].activations.kind.margin == 1.5


def test_saved_and_continued_in_a_new_process_equals_the_uninterrupted_run(tmp_path):
    def start():
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(0)
        model = quantized(varied(zoo.residual()), zoo.sample("residual", 64), freeze_after=6)
        return model

    whole = fitted(start(), "residual", epochs=2)
    half = fitted(start(), "residual")
    half.save(tmp_path / "m.keras")
    np.savez(tmp_path / "data.npz", x=zoo.sample("residual", 32), y=zoo.targets("residual", 32))
    code = f"""
import keras, numpy as np, tfgreen as tg
data = np.load(r"{tmp_path / 'data.npz'}")
model = keras.models.load_model(r"{tmp_path / 'm.keras'}")
np.save(r"{tmp_path / 'before.npy'}", model.predict(data["x"], verbose=0))
options = dict(batch_size=8, shuffle=False, verbose=0, callbacks=[tg.UpdateCompression()])
model.fit(data["x"], data["y"], **options)
model.save(r"{tmp_path / 'after.keras'}")
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "before.npy"), half.predict(zoo.sample("residual", 32), verbose=0))
    after = keras.models.load_model(tmp_path / "after.keras")
    for one, other in zip(whole.weights, after.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", ["residual", "separable", "attention"])
def test_jit_compiled_training_gives_the_same_weights(name):
    def trained(**options):
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(0)
        return fitted(quantized(varied(zoo.ZOO[name]()), zoo.sample(name, 32), freeze_after=2), name, **options)

    for one, other in zip(trained().weights, trained(jit_compile=True).weights, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-2)


def test_mixed_precision_trains_and_converts():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, dtype="mixed_float16")(inputs)
    x = layers.ReLU(dtype="mixed_float16")(layers.BatchNormalization(dtype="mixed_float16")(x))
    x = layers.BatchNormalization(dtype="mixed_float16")(layers.Flatten(dtype="mixed_float16")(x))
    outputs = layers.Dense(4, "softmax", dtype="float32")(layers.Dense(5, "silu", dtype="mixed_float16")(x))
    model = fitted(quantized(varied(keras.Model(inputs, outputs)), zoo.sample("residual", 32)), "residual")
    assert model.get_layer(index=1).layer.compute_dtype == "float16"
    lite = in_int8(model)
    assert not lite.float_operators and steps_apart(model, lite, zoo.sample("residual", 32)) <= 2.0


def test_under_mirrored_strategy_both_replicas_move_the_ranges_together():
    """In a process of its own: logical devices are set before TensorFlow starts."""
    code = """
import keras, numpy as np, tensorflow as tf, tfgreen as tg
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(0)
x, y = rng.normal(size=(32, 8, 8, 3)).astype("float32"), rng.normal(size=(32, 4)).astype("float32")
for ranges in ("moving_average", "learned"):
    with strategy.scope():
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv"),
                                  keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.Flatten(),
                                  keras.layers.Dense(4, name="out")])
        config = tg.QuantizeConfig(calibration_data=x, ranges=ranges, freeze_after=6)
        quantized = tg.quantize(model, config)
        quantized.compile("adam", "mse")
    out = quantized.get_layer("out").activations.output_range
    before = float(out.upper)
    quantized.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[tg.UpdateCompression()])
    copies = [float(value) for value in out.upper.value.values]
    assert copies[0] == copies[1] != before, (copies, before)
    assert int(quantized.get_layer("out").activations.step) == 12
    assert np.isfinite(quantized.evaluate(x, y, verbose=0))
print("both on", len(copies))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("both on 2")
