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
from tfgreen.deploy.verify import VerifyLimits, VerifyResult, compare, verify
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


def test_a_float_output_is_measured_in_255ths_of_its_range():
    expected = np.array([[0.0, 10.0], [2.0, 5.0]])
    result = compare("y", expected, expected + 1.0)
    assert result.scale == 10 / 255 and result.max_scales == pytest.approx(25.5)
    assert compare("y", np.full((3, 2), 4.0), np.full((3, 2), 4.0)).max_scales == 0  # a constant output has no range
    assert compare("y", np.zeros((3, 2)), np.zeros((3, 2))).scale == 1 / 255


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_never_passes(bad):
    fine, broken = np.ones((4, 3)), np.array([[1.0, 1.0, bad]] * 4)
    for expected, got in ((fine, broken), (broken, fine), (broken, broken)):
        result = VerifyResult((compare("y", expected, got),), 4, "float32", VerifyLimits(math.inf, math.inf, 0.0))
        assert not result.passed and "FAILED" in str(result)
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["outputs"][0]["max_error"] is None


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
