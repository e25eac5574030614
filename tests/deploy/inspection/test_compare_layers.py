from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.deploy import cases
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import convert
from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.deploy.verify import verify
from tfgreen.errors import InvalidTypeError, InvalidValueError


def noise(values, scale=1.0, shape=(16, 8, 8, 4)):
    return (np.random.default_rng(values).standard_normal(shape) * scale).astype("float32")


def in_int8(model, x):
    return convert(model, ConvertConfig(quantization="int8", calibration_data=x))


@pytest.mark.parametrize("name", ["sequential", "functional", "residual", "multi_io", "separable", "attention"])
def test_every_layer_of_a_float_file_repeats_keras(name):
    errors = compare_layers(cases.model(name), cases.artifact(name, "float32"), cases.unseen(name))
    assert errors.layers and all(layer.sqnr_db > 80 for layer in errors.layers)
    assert all(layer.scale is None and layer.mean_scales is None for layer in errors.layers)


def test_the_figures_are_those_of_numpy():
    name = "functional"
    lite, x = cases.artifact(name, "int8-io"), cases.unseen(name)
    (hidden, out) = compare_layers(cases.model(name), lite, x).layers
    assert (hidden.layer, out.layer) == ("hidden", "probabilities") and out.scale == lite.output_scales["probabilities"]
    want = cases.keras_outputs(name).astype(np.float64)
    error = np.abs(want - lite.predict(x))
    assert out.noise == pytest.approx((error**2).sum() / (want**2).sum(), rel=0.05)  # the kernels are not the same
    assert out.sqnr_db == pytest.approx(-10 * math.log10(out.noise))
    assert out.added_noise == pytest.approx(out.noise - hidden.noise)
    assert out.mean_scales == pytest.approx(out.mean_error / out.scale) and out.max_error >= out.mean_error


@pytest.mark.parametrize("quantization", ["float32", "int8"])
@pytest.mark.parametrize("follow", [
    lambda y: y * 4.0, lambda y: y / 10.0, lambda y: y + 3.0, lambda y: -y,
    lambda y: y * np.arange(1.0, 5.0, dtype="float32"), layers.Rescaling(4.0),
])  # fmt: skip
def test_a_layer_is_not_blamed_for_a_factor_or_a_sum_that_is_folded_into_it(follow, quantization):
    inputs = keras.Input((8, 8, 4))
    y = follow(layers.Conv2D(4, 3, name="conv")(inputs))
    y = layers.Softmax(name="softmax")(layers.Flatten()(layers.MaxPooling2D(6)(y)))
    model, x = keras.Model(inputs, y), noise(0)
    lite = convert(model, quantization=quantization, calibration_data=None if quantization == "float32" else x)
    errors = compare_layers(model, lite, x)
    folded = errors.skipped.get("conv", "").startswith("the file holds a multiple of it, or a sum")
    compared = [row.layer for row in errors.layers]  # the converter leaves some of these as operators of their own
    assert folded != ("conv" in compared) and "softmax" in compared and all(row.noise < 0.05 for row in errors.layers)


def test_layers_that_run_as_one_operator_are_named_together():
    inputs = keras.Input((6,))
    x = layers.ReLU(name="relu")(layers.Dense(4, name="dense")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    errors = compare_layers(model, convert(model), noise(0, shape=(8, 6)))
    assert [(row.layer, row.fused) for row in errors.layers] == [("relu", ("dense",)), ("out", ())]
    assert errors.skipped == {"dense": "fused into relu"}
    calibrated = ConvertConfig(
        quantization="int8", calibration_data=noise(0, shape=(64, 6)), calibration="mse", input_dtype="int8"
    )
    rows = compare_layers(model, convert(model, calibrated), noise(0, shape=(8, 6))).layers
    assert [row.layer for row in rows] == ["relu", "out"]  # the rounding of the input is not the output of a layer


def test_a_layer_called_twice_is_left_out_and_said():
    shared, inputs = layers.Dense(4, activation="tanh", name="shared"), keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, name="out")(shared(shared(inputs))))
    errors = compare_layers(model, convert(model), noise(0, shape=(8, 4)))
    assert [layer.layer for layer in errors.layers] == ["out"]
    assert "called more than once" in errors.skipped["shared"] and "not compared: shared" in str(errors)


def test_channels_of_unequal_ranges_are_the_cause_that_is_named():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, name="first")(inputs)
    x = layers.DepthwiseConv2D(3, use_bias=False, name="uneven")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="last")(x))
    uneven = model.get_layer("uneven")
    uneven.kernel.assign(uneven.kernel * np.array([100.0, 1.0, 1.0, 1.0]).reshape(1, 1, 4, 1))
    last = model.get_layer("last")
    last.kernel.assign(last.kernel / np.array([100.0, 1.0, 1.0, 1.0]).reshape(1, 1, 4, 1))
    with pytest.warns(UserWarning, match="far from model"):
        lite = in_int8(model, noise(0))
    errors = compare_layers(model, lite, noise(1))
    assert errors.worst.layer == "last"  # it is there that the lost channels count
    assert errors.cause_layers == ("uneven",) and "times: try tg.equalize(model)" in errors.cause


def test_a_stretched_range_is_the_cause_that_is_named_and_a_remedy_works():
    inputs = keras.Input((64,))
    x = layers.Dense(64, kernel_initializer="identity", name="same")(inputs)
    model = keras.Model(inputs, layers.Dense(64, kernel_initializer="identity", name="out")(layers.ReLU()(x)))
    x = noise(0, shape=(1024, 64))
    x[0, 0] = 400.0
    with pytest.warns(UserWarning, match="far from model.*percentile"):
        lite = in_int8(model, x)
    plain = compare_layers(model, lite, x[1:65])
    assert max(layer.mean_scales for layer in plain.layers) < 1  # in scales nothing is wrong: they are too wide
    assert plain.layers[0].sqnr_db < 15
    clipped = ConvertConfig(quantization="int8", calibration_data=x, calibration="percentile")
    assert compare_layers(model, convert(model, clipped), x[1:65]).layers[0].sqnr_db > 25
    with_outlier = compare_layers(model, lite, x)
    assert "calibration='percentile'" in with_outlier.cause


def test_keeping_the_worst_layer_in_float_helps():
    model, x = cases.model("residual"), cases.unseen("residual")
    lite = cases.artifact("residual", "int8")
    worst = compare_layers(model, lite, x).worst
    config = ConvertConfig(quantization="int8", calibration_data=x, keep_float=(worst.layer, *worst.fused))
    rows = compare_layers(model, convert(model, config), x).layers
    in_float = next(row for row in rows if row.layer == worst.layer)
    assert in_float.added_noise < worst.added_noise / 2


def test_a_failed_verification_brings_the_layers():
    model, lite, x = cases.model("functional"), cases.artifact("functional", "int8"), cases.unseen("functional")
    assert verify(model, lite, x).layers is None
    failed = verify(model, lite, x, mean_scales=0.0)
    assert failed.layers is not None and failed.layers.cause in str(failed)
    plain = json.loads(json.dumps(failed.to_dict(), allow_nan=False))
    assert [row["layer"] for row in plain["layers"]["layers"]] == ["hidden", "probabilities"]


def test_the_table_begins_with_the_layer_that_adds_most():
    errors = compare_layers(cases.model("residual"), cases.artifact("residual", "int8"), cases.unseen("residual"))
    lines = str(errors).splitlines()
    assert lines[0].split()[:2] == ["layer", "operator"] and lines[1].startswith(errors.worst.layer)
    assert lines[-1] == errors.cause and f"'{errors.worst.layer}'" in errors.cause


def test_bad_input_is_refused_in_words():
    model, lite, x = cases.model("functional"), cases.artifact("functional", "float32"), cases.unseen("functional")
    with pytest.raises(InvalidTypeError, match="LiteRTModel"):
        compare_layers(model, b"", x)
    with pytest.raises(InvalidTypeError):
        compare_layers("model", lite, x)
    with pytest.raises(InvalidValueError):
        compare_layers(model, lite, x[:, :3])
    import tensorflow as tf

    other = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    with pytest.raises(InvalidValueError, match="the file does not know its Keras layers"):
        compare_layers(model, LiteRTModel(other), x)


def test_keep_float_is_not_advised_where_nothing_would_be_left():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, name="only")])
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32") * np.array([1e5] + [1.0] * 7, "float32")
    model.layers[0].kernel.assign(model.layers[0].kernel * (np.arange(8) > 0)[:, None])
    with pytest.warns(UserWarning, match="far from model"):
        lite = convert(model, ConvertConfig(quantization="int8", calibration_data=x))
    errors = compare_layers(model, lite, x)
    assert errors.worst.layer == "only" and errors.worst.noise > 0.1
    assert not errors.remedies and "keep_float" not in errors.cause and "float16" in errors.cause


def test_a_layer_is_compared_by_an_operator_that_does_what_it_does():
    models = pytest.importorskip("keras_hub").models
    sizes = {"vocabulary_size": 50, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    backbone = models.BertBackbone(max_sequence_length=6, **sizes)
    rng = np.random.default_rng(0)
    for weight in backbone.weights:
        weight.assign(rng.normal(0.1, 0.5, weight.shape))
    ids = rng.integers(1, 50, (64, 6)).astype("int32")
    x = {"token_ids": ids, "segment_ids": 0 * ids, "padding_mask": (np.arange(6) < rng.integers(2, 7, (64, 1))) * 1}
    lite = convert(backbone, quantization="int8", calibration_data=x, sequence_length=6)
    errors = compare_layers(backbone, lite, x)
    attention = "transformer_layer_0/self_attention_layer"
    found = {row.layer: row.sqnr_db for row in errors.layers}
    assert found[f"{attention}/value_dense"] > 20 and found[f"{attention}/softmax"] > 20  # though scores are masked
    # LiteRT scales the query within its kernel, and the last of what attention does is the kernel behind it.
    assert errors.skipped[f"{attention}/query_dense"] == f"computed together with a part of {attention}"
    assert errors.skipped[attention] == f"its output is that of {attention}/output_dense"


def test_a_float_file_that_is_far_is_none_to_be_made_in_half_precision():
    """The model turns the order of a batch round, of which a file sees one sample."""
    inputs = keras.Input((4,))
    hidden = layers.Dense(4, name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="out")(ops.flip(hidden, axis=0)))
    with pytest.warns(UserWarning, match="one sample at a time"):
        lite = convert(model)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    assert "float16" not in compare_layers(model, lite, x).cause
    alone = np.concatenate([model(x[k : k + 1]) for k in range(8)])
    np.testing.assert_allclose(lite.predict(x), alone, atol=1e-6)
