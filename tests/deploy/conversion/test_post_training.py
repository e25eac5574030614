"""Ranges that TensorFlow's converter has no setting for: where they are placed, and where the record stays as it is."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.zoo import ZOO, sample, slow
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.conversion.post_training import place_ranges
from tfgreen.deploy.conversion.record import read
from tfgreen.errors import InvalidValueError
from tfgreen.quantization.lowering import BADLY_CALIBRATED
from tfgreen.quantization.placement import place_activations
from tfgreen.techniques.quantize import is_quantized


def placed(model, data, **options):
    config = {"quantization": "int8", "calibration_data": data, **options}
    return place_ranges(read(model, ConvertConfig(**config)))


@pytest.mark.parametrize("name", ["functional", "residual", "subclassed"])
def test_the_model_stays_where_the_converter_finds_the_ranges(name):
    model = ZOO[name]()
    assert placed(model, sample(name, 64)).model is model
    assert placed(model, None, quantization="float32").model is model


@pytest.mark.parametrize("options", [{"calibration": "mse"}, {"quantization": "int4"}, {"layers": {"hidden": "int4"}}])
def test_ranges_are_placed_in_a_copy_where_it_has_no_setting(options):
    model = ZOO["functional"]()
    conversion = placed(model, sample("functional", 64), **options)
    assert is_quantized(conversion.model) and not is_quantized(model)
    bits = conversion.model.get_layer("hidden").chains[0].transforms[0].bits
    assert bits == (8 if "calibration" in options else 4)


def test_a_layer_in_float_keeps_its_weights_and_its_outputs_unrounded():
    model = ZOO["functional"]()
    copy = placed(model, sample("functional", 64), keep_float=("hidden",)).model
    assert not any(chain.transforms for chain in getattr(copy.get_layer("hidden"), "chains", ()))
    np.testing.assert_array_equal(copy.get_weights()[0], model.get_weights()[0])


def test_few_samples_are_noted():
    conversion = placed(ZOO["functional"](), sample("functional", 8))
    assert any("samples are few" in note for note in conversion.notes)


def test_what_is_averaged_before_a_concatenation_gets_a_range_of_its_own():
    inputs = keras.Input((8, 8, 3))
    average = layers.AveragePooling2D(4, strides=1, padding="same", name="average")(inputs)
    model = keras.Model(inputs, layers.Concatenate()([average, layers.Conv2D(2, 1)(inputs)]))
    x = np.random.default_rng(0).random((64, 8, 8, 3), dtype="float32")
    conversion = placed(model, x)
    assert is_quantized(conversion.model) and "clip what layers ['average']" in conversion.notes[-1]
    again = placed(tg.quantize(model, tg.QuantizeConfig(calibration_data=x)), x)
    assert not any("clip" in note for note in again.notes)  # trained ranges stay


NORMS = [
    *(layers.UnitNormalization(), layers.GroupNormalization(2)),
    *slow(layers.RMSNormalization(), layers.LayerNormalization(), layers.LayerNormalization(axis=[1, 2, 3])),
]


def normalizing(norm, *more):
    inputs = keras.Input((6, 6, 3))
    x = norm(layers.Conv2D(8, 3, padding="same", bias_initializer="normal", name="conv")(inputs))
    for layer in (*more, layers.Conv2D(4, 1, name="last")):
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.name)
def test_norms_compute_in_float32_as_they_do_in_training(norm):
    """In 8 bits their sums of squares and inverse roots lose what small vectors among large ones hold."""
    keras.utils.set_random_seed(0)
    model = normalizing(type(norm).from_config(norm.get_config()))
    x = np.random.default_rng(0).normal(size=(64, 6, 6, 3)).astype("float32")
    x *= np.linspace(0.1, 3, 6).reshape(6, 1, 1)
    lite = tg.convert(model, quantization="int8", calibration_data=x)
    assert any(f"layers ['{model.layers[2].name}'] compute in float32" in note for note in lite.notes)
    assert lite.operators["CONV_2D"] == 2 and lite.audit.float_layers == (model.layers[2].name,)
    trained = tg.quantize(model, calibration_data=x)
    expected, scale = trained.predict(x, verbose=0), max(lite.output_scales.values())
    for file in (lite, tg.convert(trained, quantization="int8", calibration_data=x)):  # the data changes no range
        assert np.abs(file.predict(x) - expected).mean() < 0.02 * scale
    error = model.predict(x, verbose=0) - lite.predict(x)
    assert np.sqrt((error**2).mean()) < 2 * scale


@keras.saving.register_keras_serializable(package="post_training")
class Halves(layers.Layer):
    def call(self, x):
        return x * 0.5


def test_the_converter_sees_samples_where_a_layer_computes_in_integers_only_then():
    model = normalizing(layers.UnitNormalization(), Halves())
    x = np.random.default_rng(0).normal(size=(64, 6, 6, 3)).astype("float32")
    assert placed(model, x).model is model


def test_features_that_do_not_fit_one_scale_are_made_alike_in_float32():
    keras.utils.set_random_seed(0)
    scales, centres = [1, 1000, 0.1], [0, 3000, 1]
    x = (np.random.default_rng(0).normal(size=(128, 3)) * scales + centres).astype("float32")
    norm = layers.Normalization(mean=centres, variance=np.square(scales), name="norm")
    for more in ([], [Halves()]):
        model = keras.Sequential([keras.Input((3,), name="x"), norm, layers.Dense(16, "relu"), *more, layers.Dense(2)])
        lite = tg.convert(model, quantization="int8", input_dtype="int8", calibration_data=x)
        assert lite.audit.float_layers[0] == "norm" and lite.operators["FULLY_CONNECTED"] == 2
        assert any("['x'] stay float32, though int8 was asked for" in note for note in lite.notes)
        assert tg.verify(model, lite, x).passed
    trained = tg.quantize(model, calibration_data=x)
    np.testing.assert_allclose(tg.convert(trained, quantization="int8").predict(x), trained.predict(x), atol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidValueError, match="a model whose layers are a graph, for calibration='percentile'"):
        placed(ZOO["subclassed"](), sample("subclassed", 64), calibration="mse")
    with pytest.raises(InvalidValueError, match="to see the ranges of its activations"):
        placed(ZOO["functional"](), None, quantization="int4")
    with pytest.raises(InvalidValueError, match="'hiden'"):
        placed(ZOO["functional"](), sample("functional", 64), layers={"hiden": "int4"})


def joined(make):
    inputs = keras.Input((8,))
    x = make(layers.Dense(4, "relu")(inputs))
    return keras.Model(inputs, layers.Dense(3, name="out")(layers.Concatenate()([x, layers.Dense(4)(inputs)])))


def narrow_norm(x):
    norm = layers.BatchNormalization(name="grows")
    y = norm(x)
    norm.moving_variance.assign([1e-4] * 4)
    return y


GROWS = {
    "rescaling": layers.Rescaling(100.0, name="grows"),
    "norm": narrow_norm,
    "normalization": layers.Normalization(mean=0.5, variance=1e-4, axis=None, name="grows"),
    "product": lambda x: layers.Multiply(name="grows")([x, layers.Dense(4, "relu")(x * 1.5) * 50.0]),
}


@pytest.mark.filterwarnings("ignore:The file is far:UserWarning")  # a product has outliers, and most of it is small
@pytest.mark.parametrize("name", GROWS)
def test_what_is_multiplied_by_much_gets_a_range_of_its_own(name):
    keras.utils.set_random_seed(0)
    model, x = joined(GROWS[name]), np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    lite = tg.convert(model, quantization="int8", calibration_data=x)
    assert any("'grows'" in note and "placed by tfgreen" in note for note in lite.notes)
    assert not lite.float_operators
    assert np.abs(lite.predict(x) - model.predict(x, verbose=0)).mean() <= 1.5 * lite.output_scales["out"]


@pytest.mark.parametrize("activation", ["linear", "sigmoid"])
def test_what_is_fused_or_has_a_range_that_is_known_may_be_multiplied_by_much(activation):
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Rescaling(100.0)(layers.Dense(4, activation)(layers.Rescaling(9.0)(inputs))))
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    assert placed(model, x).model is model


NARROWER = {
    "clip": lambda h: keras.ops.clip(h, -0.5, 0.5),
    "constant": lambda h: keras.ops.maximum(h, 1.0),
    "layer": lambda h: layers.Minimum()([h, layers.Dense(8)(h) - 2.0]),
    "choice": lambda h: keras.ops.where(h > 0, h, 0.0),
}


@pytest.mark.parametrize("make", NARROWER.values(), ids=NARROWER)
def test_what_is_read_beside_a_part_of_its_range_is_not_clipped_to_that(make):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    hidden = layers.Dense(8, name="hidden")(inputs)
    model = keras.Model(inputs, [make(hidden), layers.Dense(4)(hidden)])
    x = np.random.default_rng(0).normal(size=(128, 8)).astype("float32")
    lite = tg.convert(model, quantization="int8", calibration_data=x)
    assert any("would clip ['hidden'] to what is chosen" in note for note in lite.notes)
    for expected, got in zip(model.predict(x, verbose=0), lite.predict(x), strict=True):
        assert np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2)) < 0.03


CHOSEN = {
    "clip": lambda y: keras.ops.clip(y, -0.5, 0.5),
    "flatten and clip": lambda y: keras.ops.clip(layers.Flatten()(y), -0.5, 0.5),
    "relu and minimum": lambda y: keras.ops.minimum(keras.ops.relu(y), 0.5),
}


@pytest.mark.parametrize("choose", CHOSEN.values(), ids=CHOSEN)
def test_what_is_averaged_is_not_clipped_before_to_what_is_chosen_of_it(choose):
    inputs = keras.Input((8, 3))
    model = keras.Model(inputs, choose(layers.AveragePooling1D(2, name="pool")(inputs)))
    x = np.random.default_rng(0).normal(size=(128, 8, 3)).astype("float32")
    lite = tg.convert(model, quantization="int8", calibration_data=x)
    assert any("would clip ['pool'] to what is chosen" in note for note in lite.notes)
    expected = model.predict(x, verbose=0)
    assert np.sqrt(np.mean((lite.predict(x) - expected) ** 2) / np.mean(expected**2)) < 0.1


NAMES = (
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu log_sigmoid mish relu6 selu "
    "sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh tanh_shrink"
).split()


@pytest.mark.parametrize("where", ["inside", "after a relu"])
@pytest.mark.parametrize("name", [n if n == "celu" else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_no_activation_is_clipped_by_the_ranges_of_its_parts(name, where):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation=name if where == "inside" else "relu")(inputs)
    x = x if where == "inside" else layers.Activation(name)(x)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    data = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")
    lite = tg.convert(model, quantization="int8", calibration_data=data)
    assert not any("far from" in note for note in lite.notes)
    assert tg.verify(model, lite, data, sqnr_db=15, mean_scales=5).passed


@pytest.mark.parametrize("operation", [keras.ops.celu, keras.ops.sparse_plus])
def test_nor_is_it_as_an_operation(operation):
    inputs = keras.Input((8,))
    place = place_activations(keras.Model(inputs, operation(inputs)), lambda path: False)
    assert {one.reason for one in place.values()} <= {*BADLY_CALIBRATED}
