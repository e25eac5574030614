"""judge: a file that is far from its model is announced by the conversion that made it."""

from __future__ import annotations

import importlib
import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tfgreen as tg
from tests import zoo
from tfgreen.deploy.tflite.flatbuffer import buffer_bytes, constant, parse, set_constant
from tfgreen.deploy.tflite.writing import write
from tfgreen.errors import invalid_state


def spoiled(factor: float = 3000.0) -> tuple[keras.Model, np.ndarray]:
    """A model whose channels differ so much in range that one scale for all of them leaves nothing of most."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(16, "relu", name="first"),
            layers.Dense(16, "relu", name="second"),
            layers.Dense(4, name="out"),
        ]
    )
    first, second = model.get_layer("first"), model.get_layer("second")
    scale = np.ones(16)
    scale[0] = factor
    first.kernel.assign(first.kernel * scale)
    second.kernel.assign(second.kernel / scale[:, None])
    return model, np.random.default_rng(0).normal(size=(64, 16)).astype("float32")


def test_a_file_that_is_far_off_is_a_warning_with_the_layer_and_a_note_in_the_file():
    model, x = spoiled()
    with pytest.warns(UserWarning, match="far from model.*output 'out'.*'(first|second)'"):
        lite = tg.convert(model, quantization="int8", calibration_data=x)
    assert any("far from model" in note for note in lite.notes)
    assert any("far from model" in note for note in tg.LiteRTModel(lite.content).notes)
    assert not tg.verify(model, lite, x).passed
    with pytest.raises(tg.ConversionError, match="strict=True.*far from model"):
        tg.convert(model, quantization="int8", calibration_data=x, strict=True)


def test_the_remedy_that_is_named_works():
    model, x = spoiled()
    better = tg.convert(tg.equalize(model), quantization="int8", calibration_data=x)
    assert not [note for note in better.notes if "far from" in note]
    assert tg.verify(model, better, x).passed


@pytest.mark.parametrize("name", zoo.mostly_slow())
def test_good_files_are_not_announced(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tg.convert(zoo.ZOO[name](), quantization="int8", calibration_data=zoo.sample(name, 64))


def test_classes_that_a_file_gets_wrong_are_announced():
    model, x = spoiled()
    classes = keras.Model(model.inputs, keras.ops.argmax(model.outputs[0], axis=-1))
    with pytest.warns(UserWarning, match=r"far from model.*output 'argmax': \d+% of its integers are equal"):
        lite = tg.convert(classes, quantization="int8", calibration_data=x)
    assert not tg.verify(classes, lite, x).passed
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        better = tg.convert(keras.Model(*_equalized(model)), quantization="int8", calibration_data=x)
    assert tg.verify(classes, better, x).passed


def test_near_ties_that_fall_the_other_way_are_noted():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.ops.argmax(keras.layers.Dense(20, name="scores")(inputs), axis=-1))
    x = np.random.default_rng(0).normal(size=(128, 8)).astype("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        lite = tg.convert(model, quantization="int8", calibration_data=x)
    differ = (model.predict(x, verbose=0) != lite.predict(x)).mean()
    assert 0 < differ < 0.1
    equal = f"{1 - differ:.0%} of its integers are equal"
    assert lite.notes == (f"Output 'argmax': {equal}; near ties fall the other way.",)
    assert not tg.convert(model).notes


def _equalized(model: keras.Model) -> tuple[list, keras.KerasTensor]:
    even = tg.equalize(model)
    return even.inputs, keras.ops.argmax(even.outputs[0], axis=-1)


def test_a_file_that_only_verify_would_refuse_has_a_note():
    """A mean of places, weighed by probabilities that 8 bits hold in steps of 1/256."""
    inputs, places = keras.Input((256, 8)), np.tile(np.arange(16.0, dtype="float32"), 16)[:, None]
    weights = keras.ops.softmax(4 * layers.Dense(4, use_bias=False)(inputs), axis=1)
    model = keras.Model(inputs, keras.ops.sum(weights * places, axis=1))
    x = np.random.default_rng(0).normal(size=(64, 256, 8)).astype("float32")
    lite = tg.convert(model, quantization="int8", calibration_data=x, strict=True)
    assert not tg.verify(model, lite, x).passed
    assert any("which is close, but tg.verify asks for 2.5 scales at most" in note for note in lite.notes)


def test_a_softmax_whose_classes_lie_within_a_scale_is_announced():
    start = keras.initializers.RandomNormal(stddev=0.0005, seed=0)
    model = keras.Sequential([keras.Input((16,)), layers.Dense(12, "softmax", kernel_initializer=start)])
    x = np.random.default_rng(0).normal(size=(64, 16)).astype("float32")
    with pytest.warns(UserWarning, match="far from model.*or what tells them apart, are hardly above 1/256"):
        tg.convert(model, quantization="int8", calibration_data=x)


def test_a_file_that_cannot_run_names_the_layer(monkeypatch):
    config = tg.ConvertConfig(quantization="int8", calibration_data=zoo.sample("multi_io", 32))
    model = zoo.ZOO["multi_io"]()
    number = next(i for i, row in enumerate(tg.convert(model, config).audit.operators) if row.operator == "CONV_2D")

    def refuse(self, x):
        raise tg.ConversionError(f"Node number {number} (CONV_2D) failed to prepare.")

    monkeypatch.setattr(tg.LiteRTModel, "predict", refuse)
    with pytest.raises(tg.ConversionError, match=r"a file that cannot run: layers \['conv2d.*'\] need CONV_2D of int8"):
        tg.convert(model, config)


def trained(name: str) -> keras.Model:
    return tg.quantize(zoo.ZOO[name](), calibration_data=zoo.sample(name, 64))


def damaged(content: bytes) -> tg.LiteRTModel:
    """The file with its largest weight in reverse."""
    file = parse(content, "file")
    tensor = max(file.subgraphs[0].tensors, key=lambda tensor: len(buffer_bytes(file, tensor)))
    set_constant(file, file.subgraphs[0], tensor, constant(file, tensor).ravel()[::-1])
    return tg.LiteRTModel(write(file))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "attention"])
def test_a_wrong_file_of_a_trained_model_is_announced_without_samples(name, monkeypatch):
    model = trained(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        good = tg.convert(model, quantization="int8")
    assert not [note for note in good.notes if "far from" in note or "not compared" in note]
    monkeypatch.setattr("tfgreen.deploy.convert.finish", lambda conversion, folder: damaged(good.content))
    with pytest.warns(UserWarning, match="far from model.*samples made up within its trained ranges"):
        tg.convert(model, quantization="int8")
    with pytest.raises(tg.ConversionError, match="strict=True.*far from model"):
        tg.convert(model, quantization="int8", strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["float32", "float16", "dynamic"])
def test_a_wrong_file_of_floats_is_announced_without_samples(quantization, monkeypatch):
    model = zoo.ZOO["residual"]()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        good = tg.convert(model, quantization=quantization)
    assert not [note for note in good.notes if "far from" in note or "not compared" in note]
    monkeypatch.setattr("tfgreen.deploy.convert.finish", lambda conversion, folder: damaged(good.content))
    with pytest.warns(UserWarning, match="far from model.*on samples at random"):
        tg.convert(model, quantization=quantization)


class Checked(layers.Layer):
    def call(self, x):
        if isinstance(x, tf.__internal__.EagerTensor) and keras.ops.any(x < 0):
            raise ValueError("a count")
        return x


FITS_NOTHING = {
    "draws numbers": lambda x: layers.GaussianNoise(1.0)(x, training=True),
    "logarithm": lambda x: keras.ops.log(x),
    "raises": lambda x: Checked()(x),
}


@pytest.mark.parametrize("make", FITS_NOTHING.values(), ids=FITS_NOTHING)
def test_a_model_that_samples_at_random_say_nothing_of_is_left_at_that(make):
    inputs = keras.Input((4,))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        lite = tg.convert(keras.Model(inputs, make(inputs)))
    assert not [note for note in lite.notes if "far from" in note or "not compared" in note]


def test_numbers_that_jump_are_announced():
    inputs = keras.Input((8,))
    near = keras.Model(inputs, keras.ops.sign(inputs - 1.0))
    rng = np.random.default_rng(0)
    x = np.where(rng.random((64, 8)) < 0.7, 1 + 1e-3 * rng.normal(size=(64, 8)), 3 * rng.normal(size=(64, 8)))
    with pytest.warns(UserWarning, match="far from model.*off"):
        tg.convert(near, quantization="int8", calibration_data=x)


def test_a_trained_model_that_nothing_was_made_up_for_says_so():
    number = keras.Input((3,), dtype="int32", name="number")
    model = keras.Model(number, layers.Dense(2)(keras.ops.cast(number, "float32") / 7))
    lite = tg.convert(tg.quantize(model, calibration_data=np.ones((64, 3), "int32")), quantization="int8")
    assert any("not compared with the model" in note and "'number'" in note for note in lite.notes)


def test_samples_made_up_of_labels_that_a_model_does_not_have_are_no_error():
    labels, x = keras.Input((1,), name="labels"), keras.Input((12,), name="x")
    logits = layers.Dense(12)(x)
    picked = keras.ops.take_along_axis(logits, keras.ops.cast(labels, "int32"), axis=1)
    data = [np.arange(64.0)[:, None] % 10, np.random.default_rng(0).normal(size=(64, 12))]
    model = tg.quantize(keras.Model([labels, x], picked + 0.0 * labels), calibration_data=data)
    lite = tg.convert(model, quantization="int8")
    assert any("not compared with the model" in note for note in lite.notes)


@pytest.mark.parametrize("trains", [False, True])
def test_outputs_too_small_for_8_bit_ranges_are_announced_with_a_remedy_that_works(trains):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    model.layers[0].kernel.assign(model.layers[0].kernel * 1e-12)
    source = tg.quantize(model, calibration_data=x) if trains else model
    with pytest.warns(UserWarning, match="far from model.*too small.*int16x8"):
        lite = tg.convert(source, quantization="int8", **({} if trains else {"calibration_data": x}))
    assert not tg.verify(model, lite, x).passed
    assert tg.verify(model, tg.convert(model, quantization="int16x8", calibration_data=x), x).passed
    model.layers[0].kernel.assign(model.layers[0].kernel * 0)
    dead = tg.convert(model, quantization="int8", calibration_data=x)
    assert not any("far from" in note for note in dead.notes) and tg.verify(model, dead, x).passed


@pytest.mark.parametrize("quantization", ["int8", "int16x8"])
def test_an_output_of_booleans_is_left_out(quantization):
    inputs = keras.Input((8,))
    score = layers.Dense(4)(inputs)
    model = keras.Model(inputs, {"score": score, "alarm": score > 0})
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    lite = tg.convert(model, quantization=quantization, calibration_data=x)
    assert lite.predict(x)["alarm"].dtype == bool and tg.verify(model, lite, x).passed


@pytest.mark.parametrize("calibration", ["minmax", "percentile"])
@pytest.mark.parametrize("axis", [None, 0])
def test_an_output_without_a_batch_axis_is_one_for_each_sample(axis, calibration):
    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.ops.mean(layers.Dense(8)(inputs), axis=axis))
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    lite = tg.convert(model, quantization="int8", calibration_data=x, calibration=calibration)
    assert any("no batch axis" in note and "one for each sample" in note for note in lite.notes)
    assert not any("far from" in note for note in lite.notes) and tg.verify(model, lite, x).passed


@pytest.mark.parametrize("sharpness, is_flat", [(0.5, True), (20.0, False)])
def test_a_softmax_of_many_classes_that_are_all_unlikely_is_announced_with_a_remedy_that_works(sharpness, is_flat):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 16)).astype("float32")
    model = keras.Sequential([keras.Input((16,)), layers.Dense(16), layers.Dense(600, "softmax", name="classes")])
    kernel = sharpness * rng.normal(size=(16, 600)) / 4
    model.set_weights([np.eye(16), np.zeros(16), kernel, np.zeros(600)])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        lite = tg.convert(model, quantization="int8", calibration_data=x)
    assert any("hardly above 1/256" in str(one.message) for one in told) == is_flat
    assert any("hardly above 1/256" in note for note in lite.notes) == is_flat
    if is_flat:
        kept = tg.convert(model, quantization="int8", calibration_data=x, keep_float=("classes",))
        classes = [np.argmax(one(x), axis=-1) for one in (model, kept.predict)]
        assert not any("1/256" in note for note in kept.notes) and np.mean(classes[0] == classes[1]) > 0.95


@pytest.mark.parametrize("rows_of", [
    lambda x: keras.ops.max(x, axis=0, keepdims=True),  # of a set
    lambda x: keras.ops.matmul(x, keras.ops.transpose(x)),  # each with each
], ids=["set", "pairs"])  # fmt: skip
@pytest.mark.parametrize("quantization", ["float32", "int8"])
def test_rows_that_are_no_samples_are_refused_with_a_remedy_that_works(rows_of, quantization):
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    samples = {"calibration_data": x} if quantization == "int8" else {}
    nodes = keras.Input(batch_shape=(20, 4), name="nodes")
    with pytest.raises(tg.ConversionError, match="its rows are not those of the samples.*keras.Input"):
        tg.convert(keras.Model(nodes, rows_of(layers.Dense(4)(nodes))), quantization=quantization, **samples)
    whole = keras.Input((20, 4), name="nodes")
    y = rows_of(layers.Dense(4)(keras.ops.reshape(whole, (20, 4))))
    model = keras.Model(whole, keras.ops.expand_dims(y, 0))
    if samples:
        samples = {"calibration_data": x[np.newaxis]}
    lite = tg.convert(model, quantization=quantization, **samples)
    np.testing.assert_allclose(lite.predict(x[np.newaxis]), model(x[np.newaxis]), atol=0.2 if samples else 1e-4)


@pytest.mark.parametrize("largest, rows", [(1e3, [7]), (1e5, [390]), (1e5, [2, 3, 40])])
def test_outliers_are_named_where_leaving_them_out_helps(largest, rows):
    model, x = dense_regression(400)
    data = x.copy()
    data[rows] *= largest
    with pytest.warns(UserWarning, match=f"far from model.*samples {re.escape(str(rows))} .*leave them out"):
        tg.convert(model, quantization="int8", calibration_data=data)
    lite = tg.convert(model, quantization="int8", calibration_data=np.delete(data, rows, axis=0))
    assert not any("far from" in note for note in lite.notes) and tg.verify(model, lite, x).passed


@pytest.mark.slow
def test_a_calibration_is_advised_where_it_helps():
    model, x = dense_regression(20_000)
    x[11, 2] = 4000.0
    with pytest.warns(UserWarning, match="try calibration='percentile'"):
        tg.convert(model, quantization="int8", calibration_data=x)
    lite = tg.convert(model, quantization="int8", calibration_data=x, calibration="percentile")
    assert not any("far from" in note for note in lite.notes) and tg.verify(model, lite, x[12:500]).passed


def dense_regression(samples: int) -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(32, "relu"), layers.Dense(3)])
    return model, np.random.default_rng(0).normal(size=(samples, 8)).astype("float32")


def test_features_that_share_a_scale_are_named_as_the_cause():
    model, x = dense_regression(200)
    scale = np.array([1e4, 100, 1, 1, 1, 1, 1, 1], "float32")
    model.layers[0].kernel.assign(model.layers[0].kernel / scale[:, None])
    with pytest.warns(UserWarning, match=r"far from model.*Features \[1, 2, 3, 4, 5, 6, 7\].*Normalization"):
        tg.convert(model, quantization="int8", calibration_data=x * scale)


def test_a_division_that_would_fail_in_8_bits_computes_in_float32():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((16,))
    both = layers.Dense(16, "softplus")(inputs)
    model = keras.Model(inputs, layers.Dense(4)(both[:, :8] / (both[:, 8:] + 1e-3)))
    x = np.random.default_rng(0).normal(size=(2000, 16)).astype("float32")
    quantized = tg.quantize(model, calibration_data=x[:200])
    for one in (model, quantized):
        lite = tg.convert(one, quantization="int8", calibration_data=x[:200])
        assert "DIV" in lite.float_operators and tg.verify(one, lite, x).passed


def test_samples_from_all_over_the_data_are_looked_at():
    """Of data that is sorted, the first samples are of one kind: here those of which nothing is lost."""

    class Norm(layers.Layer):
        def build(self, shape):
            self.gain = self.add_weight(shape=shape[-1:], initializer="ones")

        def call(self, x):
            return self.gain * x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-6)

    inputs = keras.Input((8,))
    hidden = layers.Dense(6, activation="relu", use_bias=False)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(Norm(name="norm")(hidden)))
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    x[:64] = 0
    with pytest.warns(UserWarning, match="far from model.*'norm' loses most"):
        tg.convert(model, quantization="int8", calibration_data=x)


def test_a_remedy_that_cannot_be_tried_is_not_offered(monkeypatch):
    def refuse(conversion):
        raise invalid_state("Nothing can be quantized.")

    module = importlib.import_module("tfgreen.deploy.conversion.judge")
    monkeypatch.setattr(module, "with_ranges", refuse)
    model, x = dense_regression(400)
    x[7] *= 1e5
    with pytest.warns(UserWarning, match="far from model") as caught:
        tg.convert(model, quantization="int8", calibration_data=x)
    assert not any("leave them out" in str(one.message) or "try calibration" in str(one.message) for one in caught)
