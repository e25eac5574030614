"""Where activations are rounded, decided from the graph alone; that LiteRT rounds there too is in test_quantize.py."""

from __future__ import annotations

import sys

import keras
import pytest
from keras import layers, ops

import tfgreen as tg
from tests import zoo
from tests.quantized import normal
from tfgreen.quantization import placement
from tfgreen.quantization.lowering import OBSERVED, SIGNED_UNIT, UNIT
from tfgreen.quantization.placement import Placement, averaging_before_concat, place_activations

IMAGE = (8, 8, 4)


def nowhere(path: str) -> bool:
    return False


def conv(name: str, **options) -> layers.Layer:
    return layers.Conv2D(4, 3, padding="same", name=name, **options)


def norm(name: str = "norm", **options) -> layers.Layer:
    return layers.BatchNormalization(name=name, **options)


def placed(body, shape=IMAGE, kept=()) -> dict[str, str]:
    inputs = keras.Input(shape, name="x")
    model = keras.Model(inputs, body(inputs))
    return {path: str(place) for path, place in place_activations(model, lambda path: path in kept).items()}


def branches(*names: str, **options):
    return lambda x: [conv(name, **options)(x) for name in names]


def feeder_used_elsewhere(x):
    a, b = branches("a", "b")(x)
    return [layers.Concatenate(name="join")([a, b]), conv("after")(a)]


def joined_twice(x):
    a, b = branches("a", "b")(x)
    return [layers.Concatenate(name="one")([a, b]), layers.Concatenate(name="two")([b, b])]


def shared(x):
    layer, relu = conv("shared"), layers.ReLU(name="relu")
    return layers.Add(name="add")([relu(layer(x)), relu(layer(layers.MaxPooling2D(3, 1, "same", name="pool")(x)))])


def shared_that_differs(x):
    layer = conv("shared")
    return layers.Add(name="add")([layers.ReLU(name="relu")(layer(x)), layer(conv("first")(x))])


def nested(x):
    inner = keras.Input(IMAGE)
    block = keras.Model(inner, norm()(conv("conv", use_bias=False)(inner)), name="block")
    return layers.ReLU(name="relu")(block(x))


def used_twice(x):
    return layers.Add(name="add")([conv("conv")(x), x])


CASES = {
    "conv, norm, relu": (
        lambda x: layers.ReLU(name="relu")(norm()(conv("conv")(x))),
        {"conv": "in0 fused", "norm": "fused", "relu": "out"},
    ),
    "dense, norm, relu": (
        lambda x: layers.Activation("relu", name="relu")(norm()(layers.Dense(4, name="dense")(x))),
        {"dense": "in0 fused", "norm": "fused", "relu": "out"},
    ),
    "conv, dropout, norm, dropout, relu": (
        lambda x: layers.ReLU(name="relu")(
            layers.Dropout(0.1, name="b")(norm()(layers.Identity(name="a")(conv("conv")(x))))
        ),
        {"conv": "in0 fused", "a": "", "norm": "fused", "b": "", "relu": "out"},
    ),
    "norm over another axis": (
        lambda x: norm(axis=1)(conv("conv")(x)),
        {"conv": "in0 out", "norm": "1x out"},
    ),
    "norm after an activation": (
        lambda x: norm()(conv("conv", activation="relu")(x)),
        {"conv": "in0 out", "norm": "1x out"},
    ),
    "norm alone": (lambda x: layers.ReLU(name="relu")(norm()(x)), {"norm": "in0 1x", "relu": "out"}),
    "relu6": (lambda x: layers.ReLU(6.0, name="relu")(conv("conv")(x)), {"conv": "in0", "relu": "out"}),
    "relu up to 4": (lambda x: layers.ReLU(4.0, name="relu")(conv("conv")(x)), {"conv": "in0", "relu": "(0.0, 4.0)"}),
    "relu with a slope": (
        lambda x: layers.ReLU(negative_slope=0.1, name="relu")(conv("conv")(x)), {"conv": "in0 out", "relu": "out"},
    ),
    "transposed conv and relu": (
        lambda x: layers.ReLU(name="relu")(layers.Conv2DTranspose(4, 3, name="conv")(x)),
        {"conv": "in0 out", "relu": "out"},
    ),
    "output before a relu": (lambda x: (lambda y: [y, layers.ReLU(name="relu")(y)])(conv("conv")(x)),
                             {"conv": "in0 out", "relu": "out"}),
    "add, relu": (
        lambda x: layers.ReLU(name="relu")(layers.Add(name="add")(branches("a", "b")(x))),
        {"a": "in0 out", "b": "in0 out", "add": "", "relu": "out"},
    ),
    "add of 3": (
        lambda x: layers.Add(name="add")(branches("a", "b", "c")(x)),
        {"a": "in0 out", "b": "in0 out", "c": "in0 out", "add": "1x out"},
    ),
    "average of 2": (
        lambda x: layers.Average(name="mean")(branches("a", "b")(x)),
        {"a": "in0 out", "b": "in0 out", "mean": "1x out"},
    ),
    "concat of 7": (
        lambda x: layers.Concatenate(name="join")(branches(*"abcdefg")(x)),
        {**dict.fromkeys("abcdefg", "in0"), "join": "out"},
    ),
    "concat through pooling": (
        lambda x: layers.Concatenate(name="join")(
            [layers.MaxPooling2D(2, name="max")(conv("a")(x)), layers.AveragePooling2D(2, name="mean")(conv("b")(x))]
        ),
        {"a": "in0", "b": "in0 out", "max": "", "mean": "", "join": "out"},
    ),
    "concat of the mean of a map": (
        lambda x: layers.Concatenate(name="join")([layers.AveragePooling2D(x.shape[1:3], name="pool")(conv("a")(x))]*2),
        {"a": "in0 out", "pool": "mean", "join": "out"},
    ),
    "concat of a feeder used elsewhere": (
        feeder_used_elsewhere, {"a": "in0 out", "b": "in0", "join": "out", "after": "out"},
    ),
    "concat twice": (joined_twice, {"a": "in0", "b": "in0 out", "one": "out", "two": "out"}),
    "concat of an input": (
        lambda x: layers.Concatenate(name="join")([layers.Flatten(name="flat")(x), layers.Dense(4, name="dense")(
            layers.Flatten(name="other")(x))]),
        {"flat": "in0", "other": "in0", "dense": "", "join": "out"},
    ),
    "concat of inputs alone": (lambda x: layers.Concatenate(name="join")([x, x]), {"join": "out"}),
    "concat of a softmax": (
        lambda x: layers.Concatenate(name="join")(
            [layers.Dense(3, "softmax", name="a")(x), layers.Dense(3, name="b")(x)]),
        {"a": f"in0 1x {UNIT}", "b": "in0", "join": "out"},
    ),
    "pad by zeros": (lambda x: ops.pad(conv("conv")(x), 1), {"conv": "in0 out", "pad": ""}),
    "pad by -1": (lambda x: ops.pad(conv("conv")(x), 1, constant_values=-1.0), {"conv": "in0", "pad": "out"}),
    "pad by minus infinity": (
        lambda x: ops.pad(conv("conv")(x), 1, constant_values=-1e9), {"conv": "in0 out", "pad": ""},
    ),
    "x / y": (
        lambda x: conv("after")(conv("a")(x) / conv("b")(x)),
        {"a": "in0 out", "b": "", "true_divide": "", "after": "in0 out"},
    ),
    "x / 2": (lambda x: conv("conv")(x) / 2.0, {"conv": "in0 out", "true_divide": "out"}),
    "1 / x": (lambda x: 1.0 / conv("conv")(x), {"conv": "", "true_divide": ""}),
    "separable, norm, relu": (
        lambda x: layers.ReLU(name="relu")(norm()(layers.SeparableConv2D(4, 3, name="conv")(x))),
        {"conv": "in0 1x fused", "norm": "fused", "relu": "out"},
    ),
    "pooling, flatten, dense": (
        lambda x: layers.Dense(2, name="dense")(layers.Flatten(name="flat")(layers.MaxPooling2D(name="pool")(x))),
        {"pool": "in0", "flat": "", "dense": "out"},
    ),
    "global average": (lambda x: layers.GlobalAveragePooling2D(name="mean")(conv("conv")(x)),
                       {"conv": "in0 out", "mean": "out"}),
    "silu inside": (lambda x: conv("conv", activation="silu")(x), {"conv": "in0 2x out"}),
    "silu": (lambda x: layers.Activation("silu", name="act")(conv("conv")(x)), {"conv": "in0 out", "act": "1x out"}),
    "gelu inside": (lambda x: conv("conv", activation="gelu")(x), {"conv": "in0 1x out"}),
    "hard_sigmoid inside": (
        lambda x: conv("conv", activation="hard_sigmoid")(x), {"conv": "in0 2x (0.0, 1.0)"},
    ),
    "softmax inside": (lambda x: layers.Dense(3, "softmax", name="a")(x), {"a": f"in0 1x {UNIT}"}),
    "softmax": (lambda x: layers.Softmax(name="b")(layers.Dense(3, name="a")(x)), {"a": "in0 out", "b": str(UNIT)}),
    "tanh": (lambda x: layers.Activation("tanh", name="b")(conv("a")(x)), {"a": "in0 out", "b": str(SIGNED_UNIT)}),
    "x + y, relu": (
        lambda x: ops.relu(conv("conv")(x) + x), {"conv": "in0 out", "add": "in1", "relu": "out"},
    ),
    "x * 2": (lambda x: conv("conv")(x) * 2, {"conv": "in0 out", "multiply": "out"}),
    "x[:, 0]": (lambda x: conv("conv")(x)[:, 0], {"conv": "in0 out", "get_item": ""}),
    "used twice": (used_twice, {"conv": "in0 out", "add": "in1 out"}),
    "shared layers": (shared, {"shared": "in0", "pool": "in0", "relu": "out", "add": "out"}),
    "a shared layer whose calls differ": (
        shared_that_differs, {"shared": "in0 out", "first": "in0 out", "relu": "out", "add": "out"},
    ),
    "nested": (nested, {"block/conv": "in0 fused", "block/norm": "fused", "relu": "out"}),
}


@pytest.mark.parametrize("body, expected", CASES.values(), ids=CASES)
def test_places(body, expected):
    assert placed(body) == expected


def test_inputs_of_several_models_and_integers_are_told_apart():
    places = {path: str(place) for path, place in place_activations(zoo.multi_io(), nowhere).items()}
    assert places["conv2d"] == "in0" and places["dense"] == "in0"
    tokens = place_activations(zoo.attention(), nowhere)
    assert not any(place.inputs for place in tokens.values())


def test_a_subclassed_model_has_no_placements():
    assert place_activations(zoo.subclassed(), nowhere) == {}


def test_a_placement_survives_a_round_trip():
    one = Placement((0, 2), (OBSERVED, (0.0, 6.0)), (0.0, 1.0), fused=True, averaging=True, reason="because")
    for place in (one, Placement()):
        assert Placement.from_dict(place.to_dict()) == place


def test_a_compressed_layer_counts_as_the_one_inside_it():
    x = normal(*IMAGE, count=8)
    inputs = keras.Input(IMAGE)
    for body, expected in CASES.values():
        if expected.keys() <= {"conv", "norm", "relu", "add", "get_item"}:
            model = keras.Model(inputs, body(inputs))
            found = place_activations(tg.quantize(model, calibration_data=x), nowhere)
            assert {path: str(place) for path, place in found.items()} == expected


@keras.saving.register_keras_serializable(package="tests")
class Renamed(layers.Conv2D):
    """A subclass that computes as Keras's class does."""


@keras.saving.register_keras_serializable(package="tests")
class Doubled(layers.Dense):
    """A subclass that computes something of its own."""

    def call(self, x):
        return 2.0 * super().call(x)


@keras.saving.register_keras_serializable(package="tests")
class Max(layers.Layer):
    """A layer of the user's, named like a raw operation."""

    def call(self, x):
        return x + 1.0


def test_a_subclass_is_what_keras_made_it_unless_it_computes_by_itself():
    found = placed(lambda x: norm()(Renamed(4, 3, name="conv")(x)))
    assert found == {"conv": "in0 fused", "norm": "fused out"}
    found = placed(lambda x: norm()(Doubled(4, name="dense")(x)))
    assert found == {"dense": "in0 out", "norm": "1x out"}
    assert placed(lambda x: Max(name="own")(x)) == {"own": "in0 out"}


REASONS = {
    "Conv3D": (lambda x: layers.Conv3D(2, 2, name="it")(x), (4, 4, 4, 2), "no int8 kernel"),
    "LSTM": (lambda x: layers.LSTM(2, name="it")(x), (4, 2), "its steps run in float32"),
    "LayerNormalization": (lambda x: layers.LayerNormalization(name="it")(x), (4,), "mean, variance or norm"),
    "mish": (lambda x: layers.Dense(2, "mish", name="it")(x), (4,), "activation 'mish'"),
    "own call": (lambda x: Doubled(2, name="it")(x), (4,), "its call() is not Keras's own"),
    "-x": (lambda x: ops.negative(x), (4,), "no int8 kernel"),
}


def test_a_join_that_is_kept_in_float_with_all_that_it_joins_stays_apart_from_the_range_of_a_softmax():
    x = keras.Input((4,))
    made = [layers.Dense(3, "softmax", name="a")(x), layers.Dense(3, name="b")(x)]
    model = keras.Model(x, layers.Concatenate(name="join")(made))
    model.get_layer("b").kernel.assign(100 * model.get_layer("b").kernel)
    kept = ("a", "b", "join")
    assert place_activations(model, kept.__contains__)["join"].float_island
    data = normal(4)
    lite = tg.convert(model, quantization="int8", calibration_data=data, keep_float=kept[::2])
    assert "CONCATENATION" in lite.float_operators and tg.verify(model, lite, data).passed


@pytest.mark.parametrize("body, shape, reason", REASONS.values(), ids=REASONS)
def test_what_stays_float_has_a_reason_and_its_output_is_rounded_for_the_next_layer(body, shape, reason):
    inputs = keras.Input(shape)
    (place,) = place_activations(keras.Model(inputs, body(inputs)), nowhere).values()
    assert place.output == OBSERVED
    assert reason in place.reason


def test_a_layer_kept_in_float_is_not_merged_and_what_comes_after_rounds_its_input():
    def chain(x):
        return conv("c")(layers.ReLU(name="relu")(norm()(conv("b")(conv("a")(x)))))

    inputs = keras.Input(IMAGE)
    model = keras.Model(inputs, chain(inputs))
    places = place_activations(model, lambda path: path == "b")
    assert {path: str(place) for path, place in places.items()} == {
        "a": "in0 out", "b": "", "norm": "in0 1x", "relu": "out", "c": "out",
    }
    assert places["b"].keep_float and places["b"].float_island
    for kept, apart in ((("a",), ()), (("c",), ("c",)), (("b", "norm"), ("b",)), (("norm", "relu", "c"), ("norm",))):
        places = place_activations(model, lambda path: path in kept)
        assert {path for path, place in places.items() if place.keep_float} == set(kept)
        assert {path for path, place in places.items() if place.float_island} == set(apart)


def test_features_that_do_not_fit_one_scale_are_rounded_once_they_are_alike():
    def alike(x):
        return layers.Normalization(mean=[0.0] * 4, variance=[1.0, 1.0, 1.0, 1e4], name="alike")(x)

    assert placed(lambda x: conv("c")(alike(x))) == {"alike": "", "c": "in0 out"}
    joined = {"join": "", "flip": "", "alike": "", "c": "in0 out"}
    flip = layers.Permute((2, 1, 3), name="flip")
    assert placed(lambda x: conv("c")(alike(flip(layers.Concatenate(1, name="join")([x, x])))), (4, 4, 4)) == joined
    both = placed(lambda x: (lambda y: [conv("c")(alike(y)), conv("d")(y)])(layers.Permute((2, 1, 3), name="flip")(x)))
    assert both == {"flip": "", "alike": "", "c": "in0 out", "d": "in0 out"}
    # What was rounded before is an integer all the same.
    assert placed(lambda x: alike(conv("c")(x))) == {"c": "in0 out", "alike": "1x out"}


class CallLimit:
    """Raise once more Python functions of a module were called than a limit: a count, where time would be noise."""

    def __init__(self, module, limit: int) -> None:
        self.file, self.limit, self.count = module.__file__, limit, 0

    def __enter__(self):
        sys.setprofile(self._seen)
        return self

    def __exit__(self, *error) -> None:
        sys.setprofile(None)

    def _seen(self, frame, event, argument) -> None:
        self.count += event == "call" and frame.f_code.co_filename == self.file
        if self.count > self.limit:
            sys.setprofile(None)
            raise RuntimeError(f"more than {self.limit} calls")


@pytest.mark.slow
def test_placement_visits_each_node_of_a_dense_net_a_few_times_though_its_paths_are_beyond_count():
    model = keras.applications.DenseNet121(weights=None, input_shape=(96, 96, 3), classes=10)
    head = ("pool4", "conv5", "bn", "relu", "avg_pool", "predictions")
    kept = lambda path: path.startswith(("conv4", *head))  # noqa: E731
    with CallLimit(placement, 60 * len(model.layers)) as limit:
        places = place_activations(model, kept)
        averaging_before_concat(model)
    assert limit.count > len(model.layers)
    assert all(places[layer.name].keep_float == kept(layer.name) for layer in model.layers[1:])
    assert places["pool3_pool"].output is None and places["conv3_block12_concat"].output == OBSERVED
