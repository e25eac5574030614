"""The energy of an inference on paper, by hand, with its source; and what is refused."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((512,), name="x"), layers.Dense(512, use_bias=False, name="out")])


def test_both_parts_by_hand_for_a_keras_model_and_its_file(model):
    size = 512 * 512
    for given in (model, tg.convert(model)):
        found = tg.estimate_energy(given)
        assert found.compute_joules == pytest.approx(size * 4.6e-12)
        # 1 MB of weights fits the 1 MB cache, 4 kB of numbers the smallest
        assert found.traffic_joules == pytest.approx(4 * size * 12.5e-12 + 4 * 1024 * 1.25e-12)
        assert found.joules == found.compute_joules + found.traffic_joules
        assert found.base_joules is None and found.seconds is None
        assert (found.device, found.node, found.year) == ("horowitz-45nm", "45 nm", 2014)
        assert found.shapes == {"x": (1, 512)}


def test_eight_bits_take_a_fifteenth_of_the_arithmetic(model):
    x = np.random.default_rng(0).normal(size=(20, 512)).astype("float32")
    plain = tg.estimate_energy(model)
    small = tg.estimate_energy(tg.convert(model, quantization="int8", calibration_data=x))
    assert plain.compute_joules / small.compute_joules == pytest.approx(4.6 / 0.3)
    assert small.traffic_joules < plain.traffic_joules / 3


def test_a_device_with_watts_adds_what_it_draws_beside(model):
    profile = tg.DeviceProfile.named("mobile-snapdragon-855")
    found = tg.estimate_energy(tg.convert(model), profile)
    assert found.seconds > 0 and found.base_joules == pytest.approx(profile.base_watts.value * found.seconds)
    assert found.joules == pytest.approx(found.compute_joules + found.traffic_joules + found.base_joules)
    assert tg.estimate_energy(tg.convert(model), profile.to_dict()).to_dict() == found.to_dict()


def test_the_result_is_shown_everywhere_with_its_source(model):
    found = tg.estimate_energy(model)
    facts = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert facts["source"] == "estimated" and facts["layers"][0]["layer"] == "out"
    for text in (str(found), found._repr_html_()):
        assert "45 nm, 2014" in text and "x 1x512" in text and "compute" in text and "traffic" in text
    assert repr(found).startswith("<EnergyEstimate: estimated")


def test_zeros_that_no_kernel_skips_are_named():
    model = keras.Sequential([keras.Input((16,)), layers.Dense(16, use_bias=False)])
    model.layers[0].set_weights([np.diag(np.ones(16))])
    dense = keras.models.clone_model(model)
    for given in (model, tg.convert(model)):
        found = tg.estimate_energy(given)
        assert "94% of the multiply-accumulates are with weights of 0, which cost what others do" in str(found)
        assert found.compute_joules == pytest.approx(tg.estimate_energy(dense).compute_joules)
    skipping = {**tg.DeviceProfile.named("horowitz-45nm").to_dict(), "name": "mine", "skips_zeros": "always"}
    assert "its kernels skip 94%" in str(tg.estimate_energy(model, skipping))


def test_biases_save_no_products():
    model = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(8, 3)])
    kernel = np.zeros((3, 3, 1, 8))
    kernel.flat[:7] = 1
    model.layers[0].set_weights([kernel, np.ones(8)])
    skipping = {**tg.DeviceProfile.named("horowitz-45nm").to_dict(), "name": "mine", "skips_zeros": "always"}
    for given in (model, tg.convert(model)):
        assert tg.estimate_energy(given, skipping).layers[0].macs == pytest.approx(48672 * 7 / 72)


def test_what_cannot_be_estimated_says_why(model):
    with pytest.raises(tg.InvalidValueError, match="Did you mean 'horowitz-45nm'"):
        tg.estimate_energy(model, "horowitz")
    with pytest.raises(tg.InvalidTypeError, match="device: expected the name of a device, the path of its .json file"):
        tg.estimate_energy(model, 45)
    with pytest.raises(tg.InvalidTypeError, match="expected a keras.Model or a tg.LiteRTModel, received str"):
        tg.estimate_energy("model.keras")
    brain = keras.Sequential([keras.Input((4,)), layers.Dense(2, dtype="mixed_bfloat16", name="half")])
    with pytest.raises(tg.InvalidValueError, match="figure for bfloat16, in which half computes, received float32, fl"):
        tg.estimate_energy(brain)
    half = keras.Sequential([keras.Input((4,)), layers.Dense(2, dtype="mixed_float16", use_bias=False)])
    assert tg.estimate_energy(half).compute_joules == pytest.approx(8 * 1.5e-12)
