"""The settings of QuantizeConfig, layers kept in float, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tests.quantized import error_in_scales, in_int8, normal, quantized, ranges_of, varied


@pytest.mark.slow
@pytest.mark.parametrize("calibration", ["minmax", "percentile", "mse"])
def test_each_calibration_starts_from_a_range_of_its_own(calibration):
    x = zoo.sample("functional", 2048)
    x[0, 0] = 8.0
    model = quantized(zoo.functional(), x, calibration=calibration)
    lower, upper = ranges_of(model)["hidden/input_0"]
    assert x.min() <= lower < -3 and 3 < upper <= 8
    assert (calibration == "percentile") == (upper < 6)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.x[16 * index : 16 * index + 16], self.y[16 * index : 16 * index + 16]


def test_calibration_data_may_be_arrays_tensors_a_dataset_or_a_generator():
    import tensorflow as tf

    x, y = zoo.sample("functional", 64), zoo.targets("functional", 64)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(10)
    kinds = [x, tf.constant(x), dataset, (batch for batch in np.split(x, 4)), Batches(x, y)]
    found = [ranges_of(quantized(zoo.functional(), kind)) for kind in kinds]
    assert all(one["hidden/input_0"] == found[0]["hidden/input_0"] for one in found)


def dtypes(lite: tg.LiteRTModel) -> list[str]:
    """Stored type of each kernel, from the first layer to the last."""
    return [str(lite.weights[name].values.dtype) for name in sorted(lite.weights, key=lambda name: name.split("/")[-2])]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [("a",), ("b",), ("c",), ("b", "relu"), ("a", "b"), ("a", "c")], ids="-".join)
def test_layers_kept_in_float_are_float_in_the_file_and_the_others_are_not(kept):
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, name="a")(inputs)
    x = layers.ReLU(name="relu")(layers.Conv2D(4, 3, name="b")(x))
    model = varied(keras.Model(inputs, layers.Conv2D(4, 3, name="c")(x)))
    x = normal(8, 8, 4)
    for settings in ({"keep_float": kept}, {"layers": dict.fromkeys(kept)}):
        result = quantized(model, x, **settings)
        lite = in_int8(result)
        assert dtypes(lite) == ["float32" if name in kept else "int8" for name in "abc"]
        assert error_in_scales(result, lite, x) <= 0.05
        reasons = {s.layer: s.reason for s in tg.summary(result).weights}
        assert {name for name, reason in reasons.items() if reason == "the settings keep it in float"} == set(kept)
    quantized(model, x, keep_float=kept, strict=True)  # it was asked for


def test_settings_by_layer():
    own = {"hidden": tg.QuantizeConfig(ranges="learned", weight_bits=4), "prob*": tg.QuantizeConfig(ranges="fixed")}
    model = quantized(zoo.functional(), zoo.sample("functional"), layers=own)
    hidden, head = model.get_layer("hidden"), model.get_layer("probabilities")
    assert type(hidden.activations.output_range).__name__ == "LearnedRange"
    assert [chain.transforms[0].bits for chain in (*hidden.chains, *head.chains)] == [4, 8]
    kernel = keras.ops.convert_to_numpy(hidden.chains[0].apply(hidden.layer.kernel.value))
    assert max(len(np.unique(column)) for column in kernel.T) <= 15


def test_embeddings_keep_8_bits():
    tokens = np.random.default_rng(0).integers(0, 9, (32, 6))
    model = keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(9, 4), layers.Dense(3)])
    result = quantized(model, tokens, weight_bits=4)
    assert [layer.chains[0].transforms[0].bits for layer in result.layers] == [8, 4]
    assert in_int8(result).float_operators == []


def test_a_raw_operation_is_kept_in_float_by_its_name():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(6)(inputs) + inputs))
    result = quantized(model, normal(6), keep_float=("add",))
    lite = in_int8(result)
    assert "ADD" in lite.float_operators and "CAST" not in lite.operators
    assert {s.layer: s.reason for s in tg.summary(result).weights}["add"] == "the settings keep it in float"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"calibration": "kl"}, "calibration.*'percentile'.*received 'kl'"),
        ({"ranges": "ema"}, "ranges.*'moving_average'.*received 'ema'"),
        ({"weight_bits": 1}, "weight_bits.*>= 2 and <= 8, received 1"),
        ({"weight_bits": 9}, "weight_bits.*>= 2 and <= 8, received 9"),
        ({"weight_bits": 8.0}, "weight_bits.*an integer"),
        ({"activation_bits": 9}, "activation_bits.*received 9"),
        ({"freeze_after": -1}, "freeze_after.*>= 0"),
        ({"freeze_after": 1.5}, "freeze_after.*>= 0"),
        ({"layers": {"a": tg.QuantizeConfig(layers={"b": None})}}, r"layers\['a'\].*no layers of its own"),
        ({"layers": {"a": tg.QuantizeConfig(strict=True)}}, r"layers\['a'\].*no strict of its own"),
        ({"layers": {"a": tg.QuantizeConfig(calibration_data=np.ones((4, 2)))}}, "no calibration_data of its own"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_met_say_what_to_change(settings, message):
    with pytest.raises(ValueError, match=message):
        tg.QuantizeConfig(**settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"keep_float": "head"}, "keep_float.*patterns"),
        ({"layers": {"a": 8}}, r"layers\['a'\].*tg.QuantizeConfig or None"),
        ({"strict": 1}, "strict.*True or False"),
        ({"preserve_sparsity": "yes"}, "preserve_sparsity.*True or False"),
        ({"preserve_clusters": 1}, "preserve_clusters.*True or False"),
    ],
    ids=str,
)
def test_a_type_that_is_wrong_is_named(settings, message):
    with pytest.raises(TypeError, match=message):
        tg.QuantizeConfig(**settings)


def test_settings_round_trip_as_plain_values():
    config = tg.QuantizeConfig(keep_float=["stem"], layers={"head": None, "conv*": tg.QuantizeConfig(weight_bits=4)})
    assert tg.QuantizeConfig.from_dict(config.to_dict()) == config


X = normal(12)
DATA = {
    "none": (None, "is missing.*start from samples.*calibration_data=x"),
    "empty": (X[:0], "at least one sample"),
    "no batches": (iter(()), "at least one sample"),
    "another shape": (X[:, :5], r"input 'x': expected shape \('samples', 12\), received \(64, 5\)"),
    "no batch axis": (X[0], r"input 'x': expected shape \('samples', 12\), received \(12,\)"),
    "NaN": (np.where(X > 2.5, np.nan, X), "input 'x': expected finite numbers, received [0-9]+ NaN"),
    "two inputs": ([X, X], r"one array \(input 'x'\), received a list of 2 arrays"),
    "by a name": ({"y": X}, r"one array \('x'\), received \['y'\]"),
    "another count": ([X, X[:3]], "received a list of 2 arrays"),
}


def dense(kernel: float = 1.0) -> keras.Model:
    model = keras.Sequential([keras.Input((12,), name="x"), layers.Dense(2, name="out")], name="net")
    model.get_layer("out").kernel.assign(model.get_layer("out").kernel * kernel)
    return model


@pytest.mark.parametrize("data, message", DATA.values(), ids=DATA)
def test_calibration_data_that_does_not_fit_the_model_is_refused(data, message):
    with pytest.raises(ValueError, match="calibration_data.*" + message):
        tg.quantize(dense(), tg.QuantizeConfig(calibration_data=data))


@pytest.mark.parametrize("data", [3, "x.npy", np.array([["a"] * 12])], ids=str)
def test_calibration_data_of_another_type_is_refused(data):
    with pytest.raises(TypeError, match="calibration_data"):
        tg.quantize(dense(), tg.QuantizeConfig(calibration_data=data))


def test_inputs_by_name_have_to_be_the_models():
    data = zoo.sample("multi_io")
    with pytest.raises(ValueError, match=r"keys \['image', 'meta'\], received \['image', 'other'\]"):
        quantized(zoo.multi_io(), {"image": data["image"], "other": data["meta"]})


def test_activations_that_are_not_finite_name_their_layer():
    with pytest.raises(ValueError, match="layer 'out' makes NaN or infinity of the calibration data"):
        quantized(dense(kernel=np.inf), X)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"keep_float": ("conv*",)}, r"keep_float.*matches one of out.*received 'conv\*'"),
        ({"layers": {"conv*": None}}, r"layers.*matches one of out.*received 'conv\*'"),
        ({"layers": {"*": None, "out": None}}, "layers.*no earlier pattern matches"),
        ({"keep_float": ("*",)}, "The settings keep all that could be quantized in float. Leave some"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_model_name_what_does_not(settings, message):
    with pytest.raises(ValueError, match=message):
        quantized(dense(), X, **settings)


def test_a_quantized_model_is_not_quantized_again():
    once = quantized(dense(), X)
    with pytest.raises(ValueError, match=r"layer 'out' \(Dense\) is quantized already.*tg.strip"):
        quantized(once, X)
    partly = quantized(zoo.functional(), zoo.sample("functional"), keep_float=("hidden",))
    with pytest.raises(ValueError, match=r"layer 'probabilities' \(Dense\) is quantized already.*tg.strip"):
        quantized(partly, zoo.sample("functional"))


def test_the_config_must_be_a_quantize_config():
    with pytest.raises(TypeError, match="tg.QuantizeConfig"):
        tg.quantize(dense(), 8)


def test_fields_may_be_passed_as_options_and_override_the_config():
    with pytest.raises(TypeError, match="'weight_bit' is no field of tg.QuantizeConfig. Did you mean 'weight_bits'"):
        tg.quantize(dense(), calibration_data=X, weight_bit=4)
    config = tg.QuantizeConfig(calibration_data=X, weight_bits=4, ranges="learned")
    for model, bits in ((tg.quantize(dense(), config), 4), (tg.quantize(dense(), config, weight_bits=6), 6)):
        assert model.get_layer("out").chains[0].transforms[0].bits == bits
        assert type(model.get_layer("out").activations.output_range).__name__ == "LearnedRange"


def test_a_subclassed_model_cannot_be_strict():
    config = tg.QuantizeConfig(strict=True)
    with pytest.raises(ValueError, match="graph, for strict=True, received a subclassed one.*ConvertConfig"):
        tg.quantize(zoo.subclassed(), config)
