from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tfgreen.quantization.feature_scales import lost_channels
from tfgreen.techniques.shared_scales import channel_axes

X = np.random.default_rng(0).normal(size=(128, 16)).astype("float32")


def detector(form: str, size: float = 300.0) -> keras.Model:
    """Boxes of up to ``size`` pixels beside scores."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,))
    boxes = layers.Rescaling(size, name="pixels")(layers.Dense(4, "sigmoid")(inputs))
    scores = layers.Dense(3, "sigmoid")(inputs)
    if form == "features":
        net = layers.Dense(7, name="both", kernel_initializer=keras.initializers.RandomNormal(stddev=1 / 300))
        model = keras.Model(inputs, net(layers.Dense(16)(inputs)))
        net.kernel.assign(net.kernel * np.array([size] * 4 + [1] * 3))
        return model
    both = layers.Concatenate(name="both")([boxes, scores])
    if form == "anchors":
        parts = [layers.Reshape((1, 7), name=f"anchor_{i}")(both) for i in range(2)]
        both = layers.Concatenate(axis=1, name="all")(parts)
    if form == "apart":
        both = [boxes, scores]
    return keras.Model(inputs, {"out": both} if form == "dict" else both)


def losses(model: keras.Model, **options: object) -> tuple[list[str], list[list[int]]]:
    """What is said of a model when it is quantized, and the channels that its copy has lost."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quantized = tg.quantize(model, calibration_data=X, **options)
    outputs = zip(*(keras.tree.flatten(net.predict(X, verbose=0)) for net in (model, quantized)))
    said = [str(entry.message) for entry in caught if "share a scale" in str(entry.message)]
    return said, [lost_channels(a, b) for a, b in outputs]


KEPT = {
    "concat": ("both",), "dict": ("both",), "features": ("both",),
    "anchors": ("all", "anchor_0", "both", "anchor_1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", KEPT)
def test_lost_channels_are_said_with_a_remedy_that_works(form):
    model = detector(form)
    (said,), found = losses(model)
    assert found == [[4, 5, 6]] and "[4, 5, 6]" in said and f"keep_float={KEPT[form]}" in said
    assert losses(model, keep_float=KEPT[form]) == ([], [[]])
    with pytest.warns(UserWarning, match=r"far from model.*\[4, 5, 6\].*keep_float=\('"):
        lite = tg.convert(model, quantization="int8", calibration_data=X)
    assert tg.verify(model, lite, X).outputs[0].lost == (4, 5, 6)
    with pytest.raises(tg.ConversionError, match="strict=True.*share a scale"):
        tg.convert(model, quantization="int8", calibration_data=X, strict=True)
    with pytest.raises(ValueError, match="strict=True.*share a scale"):
        tg.quantize(model, calibration_data=X, strict=True)
    better = tg.convert(model, quantization="int8", calibration_data=X, keep_float=KEPT[form])
    assert not [note for note in better.notes if "share a scale" in note] and tg.verify(model, better, X).passed


def test_channels_lie_where_they_are_joined():
    inputs = keras.Input((16,))
    boxes = layers.Rescaling(300.0)(layers.Dense(8, "sigmoid")(inputs))
    scores = layers.Dense(6, "sigmoid")(inputs)
    parts = [layers.Reshape((-1, 2))(part) for part in (boxes, scores)]
    model = keras.Model(inputs, layers.Concatenate(axis=1, name="both")(parts))  # (channels, anchors)
    with pytest.warns(UserWarning, match=r"Channels \[4, 5, 6\] \(axis 1\).*keep_float=\('both',\)"):
        tg.quantize(model, calibration_data=X)
    with pytest.warns(UserWarning, match=r"\[4, 5, 6\] \(axis 1\)"):
        lite = tg.convert(model, quantization="int8", calibration_data=X)
    result = tg.verify(model, lite, X)
    assert not result.passed and "Channels [4, 5, 6] (axis 1)" in str(result)
    better = tg.convert(model, quantization="int8", calibration_data=X, keep_float=("both",))
    assert tg.verify(model, better, X).passed


AXES = {
    "last": (lambda x: layers.Concatenate()([x, x]), (-1,)),
    "first": (lambda x: layers.Concatenate(axis=1)([x, x]), (-1, 1)),
    "negative": (lambda x: keras.ops.concatenate([x, x], axis=-3), (-1, 1)),
    "moved to the end": (lambda x: layers.Permute((2, 3, 1))(layers.Concatenate(axis=1)([x, x])), (-1,)),
    "moved from the end": (lambda x: layers.Permute((3, 1, 2))(layers.Concatenate()([x, x])), (-1, 1)),
    "lost track of": (lambda x: layers.Reshape((4, 6))(layers.Concatenate(axis=1)([x, x])), (-1,)),
    "channels first": (lambda x: layers.MaxPooling2D(1, data_format="channels_first")(layers.ReLU()(x)), (-1,)),
    "of a kernel": (lambda x: layers.Conv2D(3, 1, data_format="channels_first")(x), (1,)),
}


@pytest.mark.parametrize("make, axes", AXES.values(), ids=AXES)
def test_the_axes_of_channels(make, axes):
    inputs = keras.Input((2, 3, 2))
    assert channel_axes(keras.Model(inputs, make(inputs))) == [axes]


@pytest.mark.parametrize("form, size", [("concat", 3.0), ("features", 3.0), ("apart", 300.0)])
def test_channels_of_like_ranges_are_no_loss(form, size):
    model = detector(form, size)
    said, found = losses(model)
    assert not said and not any(found)
    lite = tg.convert(model, quantization="int8", calibration_data=X)
    assert not [note for note in lite.notes if "share a scale" in note]


def test_where_no_float_layer_helps_outputs_of_their_own_are_advised():
    inputs = keras.Input((7,), name="x")
    model = keras.Model(inputs, layers.Dense(7)(inputs))  # none would be left
    model.layers[-1].kernel.assign(np.diag([300.0] * 4 + [1.0] * 3))
    with pytest.warns(UserWarning, match=r"\[4, 5, 6\].*Return them as outputs of their own"):
        tg.quantize(model, calibration_data=X[:, :7])


def test_what_loses_a_channel_before_it_is_joined_is_kept_in_float_too():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,))
    spread = layers.Lambda(ops.exp, name="deviation")(layers.Dense(6, name="spread")(inputs))
    parts = [layers.Dense(2, name="mean")(inputs) * 50.0, spread]
    model = keras.Model(inputs, layers.Concatenate(name="both")(parts))
    net = model.get_layer("spread")
    net.kernel.assign(net.kernel * np.array([2.0, 2.0, 2.0, 0.1, 0.1, 0.1]))
    net.bias.assign([2.0, 2.0, 2.0, -1.0, -1.0, -1.0])  # so that some deviations are much smaller than others
    said, _ = losses(model)
    keep = eval(said[0].partition("keep_float=")[2].rstrip("."))
    assert {"both", "deviation"} <= {*keep}
    assert losses(model, keep_float=keep) == ([], [[]])


TABLE = X[:, :3] * np.array([1.0, 50.0, 4000.0], "float32")


def reading(form: str) -> keras.Model:
    """A model of a table whose columns share no scale, read raw and, or, normalized."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3, 1) if form == "series" else (3,), name="table")
    norm = layers.Normalization(name="norm")
    norm.adapt(TABLE)
    net = {
        "raw": lambda x: layers.Dense(8, name="first")(x),
        "both": lambda x: layers.Concatenate()([norm(x), layers.Dense(8, name="first")(x)]),
        "reshaped": lambda x: layers.Dense(8, name="first")(layers.Flatten(name="flat")(layers.Reshape((3, 1))(x))),
        "normalized": norm,
    }[form](inputs)
    return keras.Model(inputs, layers.Dense(2, name="out")(layers.Dense(8, "relu")(net)))


@pytest.mark.parametrize("form", ["raw", "both", "reshaped"])
def test_lost_features_of_an_input_are_said_with_remedies_that_work(form):
    model = reading(form)
    with pytest.warns(UserWarning, match=r"Features \[0, 1\] \(last axis\) of input 'table' are lost") as caught:
        tg.quantize(model, calibration_data=TABLE)
    said = next(str(entry.message) for entry in caught if "Features" in str(entry.message))
    keep = eval(said.partition("keep_float=")[2].rstrip("."))
    assert "first" in keep
    tg.quantize(model, calibration_data=TABLE, keep_float=keep)  # a warning would be an error
    tg.quantize(reading("normalized"), calibration_data=TABLE)
    with pytest.raises(ValueError, match=r"strict=True, but: Features \[0, 1\]"):
        tg.quantize(model, calibration_data=TABLE, strict=True, keep_float=("norm",) if form == "both" else ())


def test_features_of_like_size_are_no_loss():
    tg.quantize(reading("raw"), calibration_data=TABLE / [1, 40, 1000])


def tower(sizes: tuple[float, float]) -> tuple[keras.Model, list[np.ndarray]]:
    """One tower for two inputs, which share its ranges."""
    keras.utils.set_random_seed(0)
    a, b = keras.Input((16,), name="a"), keras.Input((16,), name="b")
    shared = keras.Sequential([layers.Dense(24, "relu"), layers.Dense(8)], name="tower")
    join, rng = layers.Dot(-1, normalize=True), np.random.default_rng(0)
    x = [(rng.random((200, 16)) * (rng.random((200, 16)) > 0.8) * size).astype("float32") for size in sizes]
    return keras.Model([a, b], layers.Dense(2)(join([shared(a), shared(b)]))), x


def flipped() -> tuple[keras.Model, np.ndarray]:
    """A small channel, behind a layer of which the file holds nothing."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).integers(0, 255, (64, 8, 8, 3)).astype("float32") * [1, 1, 0.001]
    norm, inputs = layers.Normalization(), keras.Input((8, 8, 3))
    norm.adapt(x)
    y = layers.Conv2D(6, 3, activation="relu")(norm(layers.RandomFlip(name="flip")(inputs)))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(y))), x


@pytest.mark.parametrize("make", [lambda: tower((1.0, 0.01)), flipped])
def test_layers_that_are_advised_bring_a_model_back(make):
    model, x = make()
    with pytest.warns(UserWarning, match=r"keep_float=\(.*\)") as caught:
        far = tg.quantize(model, calibration_data=x)
    kept = eval(str(caught[0].message).split("keep_float=")[1].rstrip("."))  # noqa: S307 - text of ours
    expected = model.predict(x, verbose=0)
    assert np.square(expected - far.predict(x, verbose=0)).mean() > 0.1 * expected.var()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        near = tg.quantize(model, calibration_data=x, keep_float=kept)
        file = tg.convert(model, quantization="int8", calibration_data=x, keep_float=kept)
    for got in (near.predict(x, verbose=0), file.predict(x)):
        assert np.square(expected - got).mean() < 0.02 * expected.var()
    with pytest.warns(UserWarning, match=r"keep_float=\('" + kept[0]):
        tg.convert(model, quantization="int8", calibration_data=x)


def test_a_small_input_of_few_numbers_is_no_loss_beside_itself():
    model, x = tower((1.0, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tg.quantize(model, calibration_data=x)


def test_few_bits_are_left_to_training():
    model, x = tower((1.0, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tg.quantize(model, calibration_data=x, weight_bits=2)


def test_outputs_that_hardly_vary_are_not_called_far():
    keras.utils.set_random_seed(0)
    small = keras.initializers.RandomNormal(stddev=1e-4)
    model = keras.Sequential([keras.Input((16,)), layers.Dense(4, "softmax", kernel_initializer=small)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        quantized = tg.quantize(model, calibration_data=X)
    expected = model.predict(X, verbose=0)
    assert np.square(expected - quantized.predict(X, verbose=0)).mean() > 0.1 * expected.var()
