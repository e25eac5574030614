"""ActivationQuantizer: the ranges of one layer; whole models are in tests/techniques/test_quantize.py."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.quantized import error_in_scales, in_int8, normal, quantized
from tfgreen.model.graph import LayerGraph
from tfgreen.quantization.activation_quantizer import ActivationQuantizer, ranges_of_consumer, ranges_of_input
from tfgreen.quantization.placement import Placement
from tfgreen.quantization.ranges import ActivationRange, LearnedRange, MovingAverageRange
from tfgreen.transforms.compressed import Compressed
from tfgreen.transforms.exporting import exporting

X = normal(6, count=16)
OUTPUT = Placement(output="observed")


def around(layer: layers.Layer, placement: Placement = OUTPUT, kind=ActivationRange, **settings) -> Compressed:
    activations = ActivationQuantizer(placement, kind(), **settings)
    if isinstance(layer, layers.Dense):
        layer.build((None, 6))
    layer.built = True
    compressed = Compressed(layer, [], activations)
    for range_ in activations.ranges():
        range_.set(-1.0, 1.0)
    return compressed


def levels(y: np.ndarray) -> int:
    return len(np.unique(np.round(keras.ops.convert_to_numpy(y) * 127.5)))


def test_only_the_places_that_are_asked_for_are_rounded():
    x = np.linspace(-2, 2, 4006, dtype="float32").reshape(-1, 2)[:, :1] * np.ones((1, 6), "float32")
    nothing, output = around(layers.Identity(), Placement()), around(layers.Identity())
    np.testing.assert_array_equal(nothing(x), x)
    y = keras.ops.convert_to_numpy(output(x))
    assert levels(y) == 256 and abs(y).max() <= 1.01
    entered = around(layers.Lambda(lambda x: 3.0 * x), Placement(inputs=(0,)))
    assert levels(entered(x) / 3.0) == 256


def test_inputs_are_counted_by_position_through_lists_and_integers_are_left_alone():
    compressed = around(layers.Concatenate(), Placement(inputs=(1, 2)))
    a, b, c = X, X, np.arange(96).reshape(16, 6)
    y = keras.ops.convert_to_numpy(compressed([a, b, keras.ops.convert_to_tensor(c)]))
    np.testing.assert_array_equal(y[:, :6], a)
    assert (y[:, 6:12] != b).any() and abs(y[:, 6:12]).max() <= 1.01
    np.testing.assert_array_equal(y[:, 12:], c)


def test_ranges_follow_training_batches_only_until_they_are_frozen():
    compressed = around(layers.Identity(), kind=MovingAverageRange, freeze_after=2)
    range_ = compressed.activations.output_range
    compressed(X)
    assert tuple(range_.numbers()) == (-1.0, 1.0)
    compressed.watched = True
    compressed(X, training=True)
    moved = tuple(range_.numbers())
    np.testing.assert_allclose(moved, [-0.99 + 0.01 * X.min(), 0.99 + 0.01 * X.max()], rtol=1e-5)
    compressed.activations.step.assign(2)
    compressed(X, training=True)
    assert tuple(range_.numbers()) == moved


def test_a_layer_kept_in_float_is_run_as_it_is_and_cast_in_the_export():
    island = Placement(keep_float=True, float_island=True, reason="asked for")
    compressed = around(layers.Dense(3), island)
    np.testing.assert_array_equal(compressed(X), compressed.layer(X))
    with exporting():
        np.testing.assert_allclose(compressed(X), compressed.layer(X), rtol=1e-6)
    assert compressed.activations.reason == "asked for"


def test_the_ranges_between_the_operators_of_a_layer_are_used():
    compressed = around(layers.Dense(3, "silu"), Placement((0,), ("observed", (0.0, 255 / 256)), "observed"))
    compressed.layer.kernel.assign(np.ones((6, 3)) * 0.1)
    first, sigmoid, output = [*compressed.activations.ranges()][1:]
    tensor = keras.ops.convert_to_tensor
    x = compressed.activations.input_ranges[0](tensor(X)) @ compressed.layer.kernel
    x = keras.ops.convert_to_numpy(first(x))
    expected = output(tensor(x * keras.ops.convert_to_numpy(sigmoid(tensor(1 / (1 + np.exp(-x)))))))
    difference = np.abs(keras.ops.convert_to_numpy(compressed(X)) - expected)
    assert difference.max() <= 1.01 * 2 / 255 and (difference < 1e-6).mean() > 0.9


class Block(layers.Layer):
    """What users put into a layer of their own, of which only the output is rounded."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = layers.Dense(6), layers.Dense(6)
        self.split = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de")
        self.join = layers.EinsumDense("abde,dec->abc", (None, 6))

    def build(self, shape):
        for layer in (self.a, self.b, self.split):
            layer.build((None, 5, 6))
        self.join.build((None, 5, 2, 3))

    def call(self, x):
        return {
            "gate": lambda: x * keras.ops.sigmoid(self.a(x)),
            "heads": lambda: self.join(self.split(x)),
            "scores": lambda: keras.ops.matmul(self.a(x), keras.ops.transpose(self.b(x), (0, 2, 1))),
            "squeeze": lambda: x * keras.ops.sigmoid(self.a(keras.ops.mean(x, 1, keepdims=True))),
        }[self.kind]()


@pytest.mark.parametrize("kind", ["gate", "heads", "scores", "squeeze"])
def test_a_layer_of_ones_own_computes_in_its_file_what_it_does_in_training(kind):
    inputs = keras.Input((5, 6))
    model, x = keras.Model(inputs, layers.Dense(3)(Block(kind)(layers.Dense(6)(inputs)))), normal(5, 6)
    trained = quantized(model, x)
    assert error_in_scales(trained, in_int8(trained), x) < 0.3


class Picked(layers.Layer):
    """Takes labels as floats, as endpoints with a loss of their own do."""

    def call(self, labels, x):
        return keras.ops.take_along_axis(x, keras.ops.cast(labels, "int32"), axis=1)


def test_labels_that_are_floats_stay_what_they_are():
    labels, inputs = keras.Input((1,)), keras.Input((12,))
    model = keras.Model([labels, inputs], Picked()(labels, layers.Dense(12)(inputs)))
    data = [np.arange(64)[:, None] % 11.0, normal(12)]
    trained = quantized(model, data)
    trained.compile("sgd", "mse")
    trained.fit(data, normal(1), epochs=3, batch_size=8, verbose=0, callbacks=[tg.UpdateCompression()])
    lite = in_int8(trained)
    every = [np.arange(11)[:, None].astype("float32"), np.tile(normal(12, count=1), (11, 1))]
    logits = keras.Model(trained.inputs[1], trained.layers[2].output).predict(every[1], verbose=0)
    np.testing.assert_allclose(trained.predict(every, verbose=0)[:, 0], logits[0, :11], atol=0.05)
    assert error_in_scales(trained, lite, every) < 0.5


def dense(*args):
    return layers.Dense(3, *args)


JOINS = {
    "sigmoid beside logits": lambda x: layers.Concatenate()([dense("sigmoid")(x), dense()(x) * 9.0]),
    "then a reshape": lambda x: layers.Reshape((3, 2))(layers.Concatenate()([dense("sigmoid")(x), dense()(x) * 9.0])),
    "one tensor twice": lambda x: (lambda e: layers.Concatenate()([layers.Softmax()(e), e]))(layers.ELU()(dense()(x))),
    "a concat in a concat": lambda x: layers.Concatenate()(
        [layers.Concatenate()([dense("tanh")(x), x]), dense("softmax")(x)]
    ),
    "a maximum": lambda x: layers.Maximum()([dense("tanh")(x), dense()(x)]),
    "raw operations": lambda x: keras.ops.stack([keras.ops.sigmoid(dense()(x)), dense()(x)], axis=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", JOINS)
def test_what_is_concatenated_is_rounded_to_one_range_and_nothing_is_clipped(kind):
    inputs = keras.Input((6,))
    model, x = keras.Model(inputs, JOINS[kind](inputs)), normal(6)
    trained = quantized(model, x)
    trained.compile("sgd", "mse")
    trained.fit(x, model.predict(x, verbose=0), epochs=2, verbose=0, callbacks=[tg.UpdateCompression()])
    lite = in_int8(trained)
    assert set(lite.float_operators) <= {"ELU"}
    assert error_in_scales(trained, lite, x) < 0.25
    assert error_in_scales(model, lite, x) < 2.5


def test_a_concatenation_that_is_kept_in_float_is_in_float():
    inputs = keras.Input((6,))
    joined = layers.Concatenate(name="both")([dense("sigmoid")(inputs), dense()(inputs) * 100.0])
    model, x = keras.Model(inputs, joined), normal(6)
    lite = tg.convert(model, quantization="int8", calibration_data=x, keep_float=["both"])
    assert lite.float_operators == ["CONCATENATION"]
    assert np.abs(lite.predict(x) - model.predict(x, verbose=0))[:, :3].max() < 0.02


def test_a_leaky_relu_rounds_as_xnnpack_does():
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, layers.LeakyReLU(negative_slope=0.07)(layers.Conv2D(8, 3)(inputs)))
    x = normal(6, 6, 3)
    trained = quantized(model, x)
    assert error_in_scales(trained, in_int8(trained), x) < 1e-3


@pytest.mark.parametrize("relu", [False, True])
def test_the_mean_of_a_map_is_rounded_to_the_range_of_what_it_is_concatenated_with(relu):
    inputs = keras.Input((8, 11, 3))
    mean = layers.AveragePooling2D((8, 11))(layers.ReLU()(inputs) if relu else inputs)
    x, model = normal(8, 11, 3), keras.Model(inputs, layers.Concatenate()([mean, mean]))
    trained = quantized(model, x)
    lite = in_int8(trained)
    assert error_in_scales(trained, lite, x) < 0.05
    assert "MEAN" in lite.operators and "AVERAGE_POOL_2D" not in lite.operators


@pytest.mark.parametrize(
    "layer", [layers.AveragePooling2D(2), layers.UpSampling2D(interpolation="bilinear")], ids=["average", "bilinear"]
)
def test_an_average_is_rounded_to_the_range_of_its_input(layer):
    x = normal(8, 8, 3)
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.ReLU(name="relu"), layer, layers.Conv2D(2, 1)])
    model = quantized(model, x)
    lower, upper = model.get_layer("relu").activations.output_range.numbers()
    assert lower == 0 and model.get_layer(layer.name).activations.placement.averaging
    y = keras.Model(model.inputs, model.get_layer(layer.name).output).predict(x, verbose=0)
    integers = y / (upper / 255)
    assert np.abs(integers - np.round(integers)).max() < 0.02 and len(np.unique(np.round(integers))) > 50


BETWEEN = {"": [], "flatten": [layers.Flatten], "dropout": [layers.Dropout, 0.1], "fold": [layers.Reshape, (2, 2, 3)]}


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
@pytest.mark.parametrize("clip", [
    keras.ops.relu, keras.ops.relu6, lambda x: layers.ReLU(0.5)(x), lambda x: keras.ops.clip(x, -0.5, 0.5),
])  # fmt: skip
def test_what_is_averaged_is_not_clipped_before(clip, between):
    inputs = keras.Input((8, 3))
    y = layers.AveragePooling1D(2)(inputs)
    x, model = normal(8, 3), keras.Model(inputs, clip(between[0](*between[1:])(y) if between else y))
    trained = quantized(model, x)
    # In scales of the output, which are finer than those of the average.
    assert error_in_scales(trained, in_int8(trained), x) < 1


def test_an_average_is_compared_with_numbers_that_the_model_holds():
    inputs = keras.Input((8, 3))
    held = keras.ops.convert_to_tensor([0.1, 0.2, 0.3])
    x, model = normal(8, 3), keras.Model(inputs, keras.ops.maximum(layers.AveragePooling1D(2)(inputs), held))
    trained = quantized(model, x)
    assert error_in_scales(trained, in_int8(trained), x) < 1


@pytest.mark.parametrize("inside", ["average", "relu", "both"])
def test_what_is_averaged_is_not_clipped_before_across_the_edge_of_a_model(inside):
    inputs = keras.Input((8, 3))
    own = {"average": (1, 2), "relu": (2, 3), "both": (1, 3)}[inside]
    every = [layers.ReLU(negative_slope=0.5), layers.AveragePooling1D(2), layers.ReLU()]
    y = inputs
    for layer in [*every[: own[0]], keras.Sequential(every[slice(*own)]), *every[own[1] :]]:
        y = layer(y)
    x, model = normal(8, 3), keras.Model(inputs, y)
    trained = quantized(model, x)
    assert error_in_scales(trained, in_int8(trained), x) < 2.1  # an average is not rounded by itself in a nested model


@pytest.mark.parametrize("kind", [ActivationRange, MovingAverageRange, LearnedRange])
def test_each_place_has_a_range_of_its_own_like_the_one_that_is_given(kind):
    given = kind(**({"momentum": 0.5} if kind is MovingAverageRange else {}))
    ranges = [*ActivationQuantizer(Placement((0, 1), output="observed"), given).ranges()]
    assert [range_.name for range_ in ranges] == ["input_0", "input_1", "output"]
    assert all(type(range_) is kind and range_ is not given for range_ in ranges)
    assert all(getattr(range_, "momentum", 0.5) == 0.5 for range_ in ranges)


def test_config_and_ranges_survive_a_round_trip():
    placement = Placement((0, 2), ("observed", (0.0, 6.0)), (0.0, 1.0), fused=True, reason="because")
    one = ActivationQuantizer(placement, MovingAverageRange(momentum=0.5), freeze_after=7)
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one))
    assert other.placement == one.placement and other.kind.momentum == 0.5 and other.freeze_after == 7
    assert [type(range_).__name__ for range_ in other.ranges()] == [
        "MovingAverageRange", "MovingAverageRange", "MovingAverageRange", "FixedRange", "FixedRange",
    ]
    assert other.reason == "because"


@pytest.mark.parametrize("tied", [True, False])
def test_the_call_that_multiplies_by_a_table_is_rounded_and_the_lookup_is_not(tied):
    keras.utils.set_random_seed(0)
    ids = keras.Input((6,), dtype="int32")
    table = layers.ReversibleEmbedding(50, 32, tie_weights=tied, name="table")
    model = keras.Model(ids, table(layers.Dense(32, "relu", name="hidden")(table(ids)), reverse=True))
    x = np.random.default_rng(0).integers(0, 50, (64, 6)).astype("int32")
    trained = quantized(model, x)
    rows = keras.Model(trained.input, trained.get_layer("hidden").input).predict(x, verbose=0)
    assert len(np.unique(rows)) > 200  # the range of the logits is 30 times that of the table, or so
    lite = in_int8(trained)
    assert not lite.notes and not [w for w in lite.weights.values() if w.bits == 32]
    assert sum(weight.values.size == 50 * 32 for weight in lite.weights.values()) == (1 if tied else 2)
    assert error_in_scales(trained, lite, x) < 0.1


def test_the_cap_of_the_logits_of_a_table_is_computed_in_integers():
    keras.utils.set_random_seed(0)
    ids = keras.Input((6,), dtype="int32")
    table = layers.ReversibleEmbedding(50, 32, logit_soft_cap=0.5, name="table")
    model = keras.Model(ids, table(layers.Dense(32, "relu")(table(ids)), reverse=True))
    table.embeddings.assign(table.embeddings * 8)
    x = np.random.default_rng(0).integers(0, 50, (64, 6)).astype("int32")
    trained = quantized(model, x)
    assert table.logit_soft_cap == 0.5
    expected = keras.ops.convert_to_numpy(trained(x))
    with ThreadPoolExecutor(4) as pool:  # which may find the layer at work
        for got in pool.map(trained, [x] * 16):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(got), expected)
    lite = in_int8(trained)
    assert not lite.notes and lite.operators["TANH"] == lite.operators["DEQUANTIZE"] == 1
    assert error_in_scales(trained, lite, x) < 0.05
    float_error = np.abs(trained.predict(x, verbose=0) - model.predict(x, verbose=0)).mean()
    assert float_error < 3 * lite.output_scales["table"]


READ = np.random.default_rng(0).uniform(-1, 3, (64, 4, 2)).astype("float32")


def test_each_reader_has_the_range_of_the_tensor_behind_layers_that_pass_it_on():
    x = keras.Input((4, 2), name="x")
    flat = layers.Dense(3, name="dense")(layers.Flatten(name="flat")(x))
    norm = layers.Normalization(mean=[0.0, 1.0], variance=[1.0, 1e9], name="norm")(x)
    model = tg.quantize(keras.Model(x, [flat, layers.Conv1D(2, 2, name="conv")(norm)]), calibration_data=READ)
    (source,) = LayerGraph(model).inputs
    # The normalization takes in float32, because no scale fits its features.
    assert {consumer.path: ranges_of_consumer(source, consumer) for consumer in source.consumers}["norm"] == []
    (range_,) = ranges_of_input(source)
    np.testing.assert_allclose(range_.numbers(), [READ.min(), READ.max()], atol=0.02)


def test_a_join_has_the_range_of_what_it_makes():
    x = keras.Input((4, 2), name="x")
    both = layers.Concatenate(name="both")([x, layers.Rescaling(5.0)(x)])
    model = tg.quantize(keras.Model(x, layers.Conv1D(2, 2)(both)), calibration_data=READ)
    (source,) = LayerGraph(model).inputs
    assert abs(max(range_.numbers()[1] for range_ in ranges_of_input(source)) - 5 * READ.max()) < 0.1
