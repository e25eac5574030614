"""What TFMOT's users set layer by layer: given ranges, symmetric and narrow activations, scales and transforms."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tests.quantized import error_in_scales, in_int8, normal, quantized, ranges_of, varied

X = normal(8, 8, 3)


def network() -> keras.Model:
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="normed")(x)))
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    return varied(keras.Model(inputs, layers.Flatten(name="flat")(layers.Conv2D(5, 2, name="head")(x))))


def quantizations(lite: tg.LiteRTModel) -> dict[str, tuple[float, int]]:
    """Scale and zero point of each int8 activation of a file."""
    details = lite.new_interpreter().get_tensor_details()
    return {d["name"]: d["quantization"] for d in details if d["dtype"] == np.int8 and d["quantization"][0]}


@pytest.mark.slow
def test_the_ends_of_a_model_get_the_ranges_that_are_given_and_keep_them_in_training():
    model = quantized(network(), X, input_range=(-2.0, 2.0), output_range=(-1.0, 4.0))
    model.compile("adam", "mse")
    model.fit(3 * X, np.ones((64, 5)), verbose=0)
    found = ranges_of(model)
    assert found["conv/input_0"] == (-2.0, 2.0) and found["head/output"] == (-1.0, 4.0)
    lite = tg.convert(model, quantization="int8", input_dtype="int8", output_dtype="int8")
    (image,), (out,) = lite.inputs, lite.outputs
    assert image.scale == pytest.approx(4 / 255) and out.scale == pytest.approx(5 / 255)
    assert (image.zero_point, out.zero_point) in [(0, -77), (-1, -77)]


def test_an_override_gives_its_layer_a_range_in_the_file_too():
    config = tg.QuantizeConfig(layers={"conv": tg.QuantizeConfig(input_range=(-5, 5), output_range=(0, 2.55))})
    model = tg.quantize(network(), config, calibration_data=X)
    found = ranges_of(model)
    assert found["conv/output"] == (0.0, pytest.approx(2.55)) and found["conv/input_0"] == (-5.0, 5.0)
    assert found["head/output"][1] != pytest.approx(2.55)
    lite = in_int8(model)
    assert (pytest.approx(0.01), -128) in quantizations(lite).values()
    assert error_in_scales(model, lite, X) <= 0.1
    assert tg.QuantizeConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_range_that_litert_gives_may_be_named_and_no_other_given_in_its_place():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, activation="softmax", name="out")])
    quantized(model, normal(6), output_range=(0.0, 1.0))
    with pytest.raises(ValueError, match=r"output_range of layer 'out'.*which LiteRT gives it.*received \(0, 2\)"):
        quantized(model, normal(6), output_range=(0, 2))


@pytest.mark.parametrize("settings", [
    {"layers": {"normed": tg.QuantizeConfig(output_range=(-1, 1))}},  # the norm and the ReLU are fused into it
    {"layers": {"flat": tg.QuantizeConfig(output_range=(-1, 1))}},  # it has the range of its input
    {"layers": {"head": tg.QuantizeConfig(input_range=(-1, 1))}},  # which the layer before it has rounded
], ids=str)
def test_a_given_range_without_effect_is_refused(settings):
    with pytest.raises(ValueError, match="_range: expected one of a tensor that is rounded there.*layer that makes"):
        quantized(network(), X, **settings)


@pytest.mark.slow
def test_symmetric_activations_have_zero_point_0_in_the_file():
    model = quantized(network(), X, symmetric_activations=True)
    for lower, upper in ranges_of(model).values():
        assert upper == pytest.approx(-lower * 127 / 128)  # as TFMOT's quantizers with symmetric=True
    lite = in_int8(model)
    assert {zero for _, zero in quantizations(lite).values()} == {0}
    assert error_in_scales(model, lite, X) <= 0.1


@pytest.mark.parametrize("bits", [2, 5])
def test_activations_below_8_bits_are_trained_in_so_many_and_stored_in_8_which_the_file_says(bits):
    probe = quantized(probe_network(), normal(4), activation_bits=bits)
    assert len(np.unique(probe.predict(normal(4, count=500), verbose=0))) <= 2**bits
    lite = in_int8(probe)
    assert any(f"trained in {bits} bits are stored in 8" in note for note in lite.notes)
    eight = quantized(probe_network(), normal(4))
    assert not in_int8(eight).notes


def probe_network() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), layers.Activation("relu")])


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_weights_per_tensor_have_one_scale_in_the_file(bits):
    model = quantized(network(), X, weight_granularity="per_tensor", weight_bits=bits)
    lite = tg.convert(model, quantization="int4" if bits == 4 else "int8")
    scales = {name.split("/")[0]: len(np.unique(w.scale)) for name, w in lite.weights.items()}
    assert scales == {"conv": 1, "depthwise": 1, "head": 1, "normed": 4}
    assert {w.bits for w in lite.weights.values()} == {bits}
    notes = {s.layer: s.reason for s in tg.summary(model).weights}
    assert "fold it first (tg.fold_batch_norm)" in notes["normed"] and not notes["conv"]
    assert error_in_scales(model, lite, X) <= 0.5
    folded = quantized(tg.fold_batch_norm(network()), X, weight_granularity="per_tensor")
    assert {len(np.unique(w.scale)) for w in in_int8(folded).weights.values()} == {1}


@keras.saving.register_keras_serializable("tests")
class PowersOfTwo(tg.TensorTransform):
    """Signed powers of two, and a setting of its own."""

    def __init__(self, smallest: float = 2.0**-6, **kwargs) -> None:
        super().__init__(**kwargs)
        self.smallest = smallest

    def apply(self, weight):
        power = 2.0 ** ops.round(ops.log(ops.maximum(ops.abs(weight), self.smallest)) / np.log(2.0))
        return weight + ops.stop_gradient(ops.sign(weight) * power - weight)

    def get_config(self):
        return {**super().get_config(), "smallest": self.smallest}


@pytest.mark.slow
def test_a_transform_of_the_user_stands_in_the_place_of_the_rounding(tmp_path):
    override = tg.QuantizeConfig(weight_transform=PowersOfTwo(0.125))
    config = tg.QuantizeConfig(layers={"head": override})
    assert tg.QuantizeConfig.from_dict(json.loads(json.dumps(config.to_dict()))).to_dict() == config.to_dict()
    pruned = tg.prune(network(), schedule=tg.ConstantSparsity(0.5, begin_step=0))
    model = tg.quantize(pruned, config, calibration_data=X)
    model.compile("adam", "mse")
    model.fit(X, np.ones((64, 5)), verbose=0, callbacks=[tg.UpdateCompression()])
    done = {s.layer: s.done for s in tg.summary(model).weights}
    assert done["head"] == ("Mask", "PowersOfTwo") and done["conv"] == ("Mask", "FakeQuant")
    kernel = np.abs(tg.strip(model).get_layer("head").kernel.numpy())
    assert (kernel == 0).mean() == 0.5 and set(np.log2(kernel[kernel > 0]) % 1) == {0.0}
    lite = in_int8(model)
    stored = np.abs(next(w for name, w in lite.weights.items() if name.startswith("head")).real)
    np.testing.assert_allclose(np.sort(stored.ravel()), np.sort(kernel.ravel()), atol=kernel.max() / 200)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras").predict(X), model.predict(X))


class Unregistered(PowersOfTwo):
    pass


@pytest.mark.parametrize("settings, error, message", [
    ({"input_range": (1, 2)}, ValueError, r"input_range\[0\].*<= 0, received 1.*Zero must be in the range"),
    ({"output_range": (0, 0)}, ValueError, "output_range.*two ends that differ"),
    ({"input_range": 3}, TypeError, r"input_range.*\(lower, upper\) or None"),
    ({"weight_granularity": "channel"}, ValueError, "weight_granularity.*'per_tensor'"),
    ({"weight_transform": PowersOfTwo}, TypeError, "weight_transform.*an instance of a subclass"),
    ({"weight_transform": PowersOfTwo(), "weight_bits": 4}, ValueError, "weight_bits.*8, the default, beside a"),
    ({"ranges": tg.ActivationRange(), "activation_bits": 4}, ValueError, "activation_bits.*Set it in the ranges that"),
    ({"symmetric_activations": 1}, TypeError, "symmetric_activations.*True or False"),
], ids=str)
def test_settings_that_do_not_go_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        tg.QuantizeConfig(**settings)


def test_an_object_of_an_unregistered_class_does_not_go_into_a_dict():
    config = tg.QuantizeConfig(weight_transform=Unregistered())
    with pytest.raises(TypeError, match="weight_transform.*register_keras_serializable"):
        config.to_dict()
