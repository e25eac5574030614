from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
from keras import layers

from tests.deploy import cases
from tests.zoo import sample
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import convert
from tfgreen.deploy.verify import verify
from tfgreen.errors import InvalidTypeError, InvalidValueError


def test_errors_are_those_of_numpy():
    lite, x = cases.artifact("multi_io", "int8-io"), cases.unseen("multi_io")
    result = verify(cases.model("multi_io"), lite, x)
    got, expected = lite.predict(x), cases.keras_outputs("multi_io")
    for output in result.outputs:
        error = np.abs(got[output.name].astype(np.float64) - expected[output.name])
        scale = next(t.scale for t in lite.outputs if t.name == output.name)
        assert output.scale == scale
        assert output.max_error == pytest.approx(error.max()) and output.mean_error == pytest.approx(error.mean())
        assert output.max_scales == pytest.approx(error.max() / scale)
    label, size = result.outputs
    assert label.agreement == (got["label"].argmax(1) == expected["label"].argmax(1)).mean()
    assert size.agreement is None and result.samples == 48


def test_the_scale_of_an_int8_file_with_float_edges_is_that_of_its_last_integer_tensor():
    assert cases.artifact("functional", "int8").output_scales == {"probabilities": 1 / 256}


def test_no_layer_is_blamed_for_samples_of_nan():
    model, lite = cases.model("functional"), cases.artifact("functional", "int8")
    with pytest.warns(UserWarning, match="NaN or infinity in 4 samples"):
        result = verify(model, lite, np.full((4, 12), np.nan))
    assert not result.passed and result.layers is None


def test_a_model_of_nan_never_passes():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Rescaling(np.nan)(inputs))
    assert not verify(model, convert(model), np.ones((4, 3), "float32"), mean_scales=math.inf).passed


def test_another_models_artifact_fails():
    keras.utils.set_random_seed(3)
    other = keras.models.clone_model(cases.model("functional"))
    result = verify(other, cases.artifact("functional", "float32"), cases.unseen("functional"))
    assert not result.passed and result.outputs[0].mean_scales > 5


def test_limits_decide():
    model, lite, x = cases.model("functional"), cases.artifact("functional", "int8"), cases.unseen("functional")
    assert verify(model, lite, x).passed
    assert not verify(model, lite, x, mean_scales=0.0).passed
    assert not verify(model, lite, x, max_scales=0.1).passed
    with pytest.raises(ValueError, match="agreement: expected a number >= 0 and <= 1, received 1.01"):
        verify(model, lite, x, agreement=1.01)


def test_it_prints_a_table_and_gives_plain_values():
    model, lite, x = cases.model("multi_io"), cases.artifact("multi_io", "float32"), cases.unseen("multi_io")
    result = verify(model, lite, x)
    lines = str(result).splitlines()
    assert len(lines) == 4 and lines[1].startswith("label") and lines[-1].startswith("passed: float32, 48 samples")
    assert repr(result) == "<VerifyResult: passed, float32, 48 samples>"
    assert result._repr_html_().count("<tr>") == 3 and "passed: float32, 48 samples" in result._repr_html_()
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["passed"] is True and [o["name"] for o in plain["outputs"]] == ["label", "size"]


def test_what_cannot_be_compared_is_refused():
    model, lite, x = cases.model("functional"), cases.artifact("functional", "float32"), cases.unseen("functional")
    with pytest.raises(InvalidTypeError, match="lite: expected a LiteRTModel"):
        verify(model, lite.content, x)
    with pytest.raises(InvalidTypeError, match="model: expected a keras.Model"):
        verify(lite, lite, x)
    inputs = keras.Input((12,))
    with pytest.raises(InvalidValueError, match="Verify a file against the model that it was converted from"):
        verify(keras.Model(inputs, layers.Dense(5)(inputs)), lite, x)
    with pytest.raises(InvalidValueError, match="at least one sample"):
        verify(model, lite, x[:0])


@pytest.mark.parametrize("name", ["functional", "sequential", "residual", "separable"])
def test_int16_activations_are_held_to_what_weights_of_8_bits_allow(name):
    config = ConvertConfig(quantization="int16x8", calibration_data=sample(name, 64))
    lite = convert(cases.model(name), config)
    result = verify(cases.model(name), lite, cases.unseen(name))
    assert result.passed and all(o.scale == 256 * lite.output_scales[o.name] for o in result.outputs)
    keras.utils.set_random_seed(3)
    other = keras.models.clone_model(cases.model(name))
    assert not verify(other, lite, cases.unseen(name)).passed


def embedded(classes=200, spread=0.02):
    """A softmax at each of 20 positions, so even that rounding to 1/256 leaves little of it."""
    keras.utils.set_random_seed(0)
    start = keras.initializers.RandomNormal(stddev=spread)
    last = layers.Dense(classes, activation="softmax", kernel_initializer=start, name="tag")
    return keras.Sequential([keras.Input((20, 16), name="x"), layers.Dense(32, activation="relu"), last])


def test_classes_are_judged_by_the_top_one_of_every_position():
    model, x = embedded(), np.random.default_rng(0).normal(size=(64, 20, 16)).astype("float32")
    with pytest.warns(UserWarning, match="hardly above 1/256"):
        lite = convert(model, quantization="int8", calibration_data=x)
    result = verify(model, lite, x)
    (output,) = result.outputs
    same = (lite.predict(x).argmax(-1) == np.asarray(model(x)).argmax(-1)).mean()
    assert output.task == "classes" and output.agreement == pytest.approx(same) and same < 0.9
    assert output.mean_scales < 2.5 and not result.passed and "top-1 agreement >= 90%" in str(result)


def test_logits_are_classes_where_the_loss_the_labels_or_the_caller_says_so():
    model = keras.Sequential([keras.Input((6,), name="x"), layers.Dense(4, name="out")])
    x, lite = np.random.default_rng(0).normal(size=(40, 6)).astype("float32"), convert(model)
    assert verify(model, lite, x).outputs[0].task == "values" and verify(model, lite, x).outputs[0].agreement is None
    assert verify(model, lite, x, agreement=1.0).outputs[0].agreement == 1.0
    assert verify(model, convert(model, labels=tuple("abcd")), x).outputs[0].task == "classes"
    for loss in ("sparse_categorical_crossentropy", keras.losses.CategoricalFocalCrossentropy(from_logits=True)):
        model.compile(loss=loss)
        assert verify(model, lite, x).outputs[0].task == "classes"
    model.compile(loss="mse")
    assert verify(model, lite, x).outputs[0].task == "values"


def test_a_regression_with_values_almost_equal_is_not_judged_by_the_largest():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,)), layers.Dense(8, activation="relu"), layers.Dense(16)])
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 0.01)
    model.layers[-1].bias.assign(np.full(16, 10.0))
    x = np.random.default_rng(0).normal(size=(64, 16)).astype("float32")
    with pytest.warns(UserWarning, match="far from zero"):  # and so hardly move the file's output
        lite = convert(model, quantization="int8", calibration_data=x)
    result = verify(model, lite, x)
    assert result.passed and result.outputs[0].agreement is None


def test_a_channel_that_shares_a_scale_with_larger_ones_is_not_passed():
    kernel = keras.initializers.Constant(np.diag([300.0] * 4 + [1.0] * 4))
    model = keras.Sequential([keras.Input((8, 8), name="x"), layers.Dense(8, kernel_initializer=kernel, name="pred")])
    x = np.random.default_rng(0).uniform(size=(40, 8, 8)).astype("float32")
    with pytest.warns(UserWarning, match="share a scale"):
        lite = convert(model, quantization="int8", calibration_data=x)
    result = verify(model, lite, x)
    (output,) = result.outputs
    assert output.mean_scales < 1 and not result.passed and output.channel >= 4 and output.sqnr_db < 10
    assert output.lost == (4, 5, 6, 7)
    assert "Channels [4, 5, 6, 7] (last axis) of output 'pred' are lost in noise" in str(result)


@pytest.mark.parametrize("policy, limit", [("mixed_bfloat16", 2.5), ("bfloat16", 2.5), ("mixed_float16", 0.5)])
def test_a_model_in_half_precision_is_held_to_that(policy, limit):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,)), *(layers.Dense(32, "relu", dtype=policy) for _ in range(3))])
    result = verify(model, convert(model), np.random.default_rng(0).normal(size=(64, 16)).astype("float32"))
    assert result.passed and result.limits.mean_scales == limit and result.quantization == "float32"


def test_integers_are_judged_by_equality():
    inputs = keras.Input((5,), name="x")
    model = keras.Model(inputs, layers.Lambda(lambda t: keras.ops.cast(t > 0, "int32"))(inputs))
    x = np.random.default_rng(0).normal(size=(30, 5)).astype("float32")
    (output,) = verify(model, convert(model), x).outputs
    assert output.task == "integers" and output.agreement == 1.0


def test_nan_at_the_same_places_is_no_difference():
    inputs = keras.Input((3,), name="x")
    model = keras.Model(inputs, layers.Lambda(lambda t: keras.ops.log(t))(inputs))
    x = np.array([[-1.0, 2.0, 3.0], [1.0, 2.0, 5.0]], "float32")
    result = verify(model, convert(model), x)
    assert result.passed and "1 values of output" in str(result) and "NaN or infinite in both" in str(result)


@pytest.mark.parametrize("form", ["array", "list", "dict", "tf.data", "labelled", "generator"])
def test_samples_come_in_every_form(form):
    import tensorflow as tf

    x = cases.unseen("functional", 10)
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(10)))
    model = cases.model("functional")
    forms = {
        "array": x, "list": [x], "dict": {model.layers[0].name: x}, "tf.data": data.map(lambda x, y: x).batch(4),
        "labelled": data.batch(4), "generator": (x[i : i + 5] for i in (0, 5)),
    }
    result = verify(model, cases.artifact("functional", "float32"), forms[form])
    assert result.passed and result.samples == 10


def test_the_file_of_another_model_is_said():
    model, lite, x = cases.model("functional"), cases.artifact("functional", "float32"), cases.unseen("functional")
    other = keras.models.clone_model(model)
    for weight in other.weights:
        weight.assign(weight + 0.3)
    assert "converted from another model" in str(verify(other, lite, x))
