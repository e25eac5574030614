from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tfgreen.config import Config
from tfgreen.techniques.policies import PruneForLatencyOnXNNPack
from tfgreen.training.schedules import ConstantSparsity
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.mask import Mask

POLICY = PruneForLatencyOnXNNPack()


def nothing(k, x):
    return x


def pad_and_conv(k, x):
    x = k.layers.ZeroPadding2D(1, name="stem_pad")(x)
    return k.layers.Conv2D(8, 3, strides=2, use_bias=False, name="stem")(x)


def pool_and_classify(k, x):
    x = k.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    return k.layers.Flatten(name="flatten")(k.layers.Conv2D(4, 1, name="classifier")(x))


def mobile(k, before=nothing, stem=pad_and_conv, middle=nothing, head=pool_and_classify):
    """A small MobileNet of either Keras (``k`` is the module), with parts to exchange; qualifies as it stands."""
    inputs = k.Input((16, 16, 3), name="image")
    x = stem(k, before(k, inputs))
    x = k.layers.ReLU(6.0, name="stem_relu")(k.layers.BatchNormalization(name="stem_bn")(x))
    x = shortcut = k.layers.Conv2D(8, 1, name="expand", activation="relu")(x)
    x = k.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = k.layers.ReLU(6.0, name="depthwise_relu")(k.layers.BatchNormalization(name="depthwise_bn")(x))
    x = k.layers.Add(name="join")([k.layers.Conv2D(8, 1, use_bias=False, name="project")(x), shortcut])
    x = middle(k, x)
    x = k.layers.ZeroPadding2D(2, name="pad")(x)
    x = k.layers.DepthwiseConv2D(5, strides=2, name="downsample", activation="relu")(x)
    x = k.layers.Conv2D(16, 1, name="widen")(x)
    return k.Model(inputs, head(k, x), name="mobile")


def named(make, *args, **kwargs):
    """A part that is one layer called ``probe``: ``make`` is its class in ``layers``."""
    return lambda k, x: getattr(k.layers, make)(*args, name="probe", **kwargs)(x)


@functools.cache
def tfmot():
    """TFMOT's policy and the Keras it works on, imported so that ``tf.keras`` stays as it is."""
    from tfgreen.training.schedules import _tfmot_schedules

    _tfmot_schedules()
    import tf_keras
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_policy

    return pruning_policy.PruneForLatencyOnXNNPack(), tf_keras


def tfmot_accepts(**parts) -> bool:
    policy, tf_keras = tfmot()
    twin = mobile(tf_keras, **parts)
    try:
        policy.ensure_model_supports_pruning(twin)
    except ValueError:
        return False
    return True


def squeeze_and_excite(k, x):
    s = k.layers.GlobalAveragePooling2D(keepdims=True)(x)
    s = k.layers.Conv2D(4, 1, activation="relu", name="squeeze")(s)
    return k.layers.Multiply()([x, k.layers.Conv2D(8, 1, activation="sigmoid", name="excite")(s)])


def upsample(k, x):
    return k.layers.UpSampling2D(2, interpolation="bilinear")(x)


def dense_head(k, x):
    return k.layers.Dense(4, name="logits")(k.layers.GlobalAveragePooling2D(name="pool")(x))


def two_heads(k, x):
    return [dense_head(k, x), k.layers.GlobalAveragePooling2D(name="embedding")(x)]


QUALIFYING = {
    "as it stands": {},
    "rescaling before": {"before": named("Rescaling", 1 / 255)},
    "normalization before": {"before": named("Normalization", mean=[1.0, 2.0, 3.0], variance=[1.0, 2.0, 3.0])},
    "a 1x1 convolution before": {"before": named("Conv2D", 3, 1)},
    "squeeze and excite": {"middle": squeeze_and_excite},
    "upsampling": {"middle": upsample},
    "dropout": {"middle": named("Dropout", 0.1)},
    "leaky relu": {"middle": named("LeakyReLU")},
    "elu": {"middle": named("ELU")},
    "sigmoid": {"middle": named("Activation", "sigmoid")},
    "raw addition": {"middle": lambda k, x: x + named("DepthwiseConv2D", 3, padding="same")(k, x)},
    "raw multiplication by a number": {"middle": lambda k, x: x * 0.5},
    "depthwise 5x5": {"middle": named("DepthwiseConv2D", 5, padding="same")},
    "batch normalization of axis 3": {"middle": named("BatchNormalization", axis=3)},
    "dense head": {"head": dense_head},
    "two heads": {"head": two_heads},
}


@pytest.mark.parametrize("parts", QUALIFYING.values(), ids=QUALIFYING)
def test_a_qualifying_model_has_the_same_layers_pruned_as_under_tfmot(parts):
    model = mobile(keras, **parts)
    verdicts = POLICY(model)
    policy, tf_keras = tfmot()
    twin = mobile(tf_keras, **parts)
    policy.ensure_model_supports_pruning(twin)
    assert set(verdicts) == {layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)}
    allowed = {path for path, reason in verdicts.items() if not reason}
    assert allowed == {layer.name for layer in twin.layers if policy.allow_pruning(layer)}
    assert {"expand", "project", "widen"} <= allowed


def test_every_other_layer_has_a_reason():
    verdicts = POLICY(mobile(keras))
    assert verdicts["stem"] == "its kernel is 3x3; XNNPACK runs only 1x1 Conv2D layers sparse"
    assert verdicts["depthwise"] == verdicts["pool"] == "XNNPACK runs only 1x1 Conv2D layers sparse"


def stem(pad=1, filters=8, kernel=3, **kwargs):
    def build(k, x):
        x = k.layers.ZeroPadding2D(pad, name="stem_pad")(x) if pad else x
        return k.layers.Conv2D(filters, kernel, name="probe", **kwargs)(x)

    return build


def padded_depthwise(pad, kernel, **kwargs):
    return lambda k, x: k.layers.DepthwiseConv2D(kernel, name="probe", **kwargs)(k.layers.ZeroPadding2D(pad)(x))


START = "sparse inference to start"
# name -> (parts, class of the layer `probe`, what the error says was expected)
BLOCKED = {
    "no padding": ({"stem": stem(pad=0, strides=2)}, "Conv2D", START),
    "padding by the convolution": ({"stem": stem(pad=0, strides=2, padding="same")}, "Conv2D", START),
    "uneven padding": ({"stem": stem(pad=((0, 1), (0, 1)), strides=2)}, "Conv2D", START),
    "stride 1": ({"stem": stem()}, "Conv2D", START),
    "a 5x5 kernel": ({"stem": stem(kernel=5, strides=2)}, "Conv2D", START),
    "four channels": ({"before": named("Conv2D", 4, 1)}, "Conv2D", START),
    "no convolution": ({"stem": named("Dense", 8)}, "Dense", START),
    "no pooling": ({"head": named("Conv2D", 4, 1)}, "Conv2D", "GlobalAveragePooling2D on the way"),
    "flatten": ({"head": named("Flatten")}, "Flatten", "GlobalAveragePooling2D on the way"),
    "max pooling at the end": ({"head": named("GlobalMaxPooling2D")}, "GlobalMaxPooling2D", "GlobalAveragePooling2D"),
    "a 3x3 convolution": ({"middle": named("Conv2D", 8, 3)}, "Conv2D", r"kernel_size \(1, 1\)"),
    "a strided 1x1 convolution": ({"middle": named("Conv2D", 8, 1, strides=2)}, "Conv2D", r"strides \(1, 1\)"),
    "groups": ({"middle": named("Conv2D", 8, 1, groups=2)}, "Conv2D", "groups 1"),
    "dilation": ({"middle": named("Conv2D", 8, 1, dilation_rate=2)}, "Conv2D", r"dilation_rate \(1, 1\)"),
    "a separable convolution": ({"middle": named("SeparableConv2D", 8, 3)}, "SeparableConv2D", "runs sparse"),
    "depthwise 7x7": ({"middle": named("DepthwiseConv2D", 7, padding="same")}, "DepthwiseConv2D", r"\(5, 5\)"),
    "depthwise stride 2, same": (
        {"middle": named("DepthwiseConv2D", 3, strides=2, padding="same")}, "DepthwiseConv2D", "'same' with strides",
    ),
    "depthwise without padding": ({"middle": named("DepthwiseConv2D", 3)}, "DepthwiseConv2D", "ZeroPadding2D of its"),
    "depthwise with too much": ({"middle": padded_depthwise(2, 3)}, "DepthwiseConv2D", "as much ZeroPadding2D"),
    "depthwise with dilation": (
        {"middle": named("DepthwiseConv2D", 3, dilation_rate=2, padding="same")}, "DepthwiseConv2D", "no dilation",
    ),
    "depth multiplier": (
        {"middle": named("DepthwiseConv2D", 3, depth_multiplier=2, padding="same")}, "DepthwiseConv2D", "multiplier 1",
    ),
    "max pooling": ({"middle": named("MaxPooling2D")}, "MaxPooling2D", "runs sparse"),
    "average pooling": ({"middle": named("AveragePooling2D", 2)}, "AveragePooling2D", "runs sparse"),
    "rescaling in the chain": ({"middle": named("Rescaling", 0.5)}, "Rescaling", "runs sparse"),
    "layer normalization": ({"middle": named("LayerNormalization")}, "LayerNormalization", "runs sparse"),
    "subtraction": ({"middle": lambda k, x: k.layers.Subtract(name="probe")([x, x])}, "Subtract", "runs sparse"),
    "concatenation": ({"middle": lambda k, x: k.layers.Concatenate(name="probe")([x, x])}, "Concatenate", "runs"),
    "batch normalization of axis 1": ({"middle": named("BatchNormalization", axis=1)}, "BatchNorm", "axis -1 or 3"),
    "nearest upsampling": ({"middle": named("UpSampling2D")}, "UpSampling2D", "interpolation 'bilinear'"),
    "tanh": ({"middle": named("Activation", "tanh")}, "Activation", "an activation of linear, relu"),
    "pooling without dimensions": (
        {"middle": lambda k, x: k.layers.Multiply()([x, k.layers.GlobalAveragePooling2D(name="probe")(x)])},
        "GlobalAveragePooling2D", "keepdims=True",
    ),
}  # fmt: skip


@pytest.mark.parametrize("parts, cls, expected", BLOCKED.values(), ids=BLOCKED)
def test_what_tfmot_refuses_is_refused_and_the_layer_is_named(parts, cls, expected):
    with pytest.raises(ValueError, match=rf"layer 'probe' \({cls}.*expected.*{expected}.*received {cls}.*Change the"):
        POLICY(mobile(keras, **parts))
    assert not tfmot_accepts(**parts)


def fork_of_padding(k, x):
    x = k.layers.ZeroPadding2D(1, name="probe")(x)
    return k.layers.Add()([k.layers.DepthwiseConv2D(3)(x), k.layers.DepthwiseConv2D(3)(x)])


# XNNPACK would run these models dense, and TFMOT takes them
STRICTER = {
    "activation of a convolution": ({"middle": named("Conv2D", 8, 1, activation="tanh")}, "Conv2D", "an activation of"),
    "softmax of the first one": ({"stem": stem(strides=2, activation="softmax")}, "Conv2D", "an activation of"),
    "padding that cannot be folded": ({"middle": named("ZeroPadding2D", 1)}, "ZeroPadding2D", "nowhere else"),
    # a Conv2D to TFMOT, for it is a subclass of that in Keras 2
    "a transposed convolution": ({"middle": named("Conv2DTranspose", 8, 1)}, "Conv2DTranspose", "runs sparse"),
    "padding for two": ({"middle": fork_of_padding}, "ZeroPadding2D", "nowhere else"),
}


@pytest.mark.parametrize("parts, cls, expected", STRICTER.values(), ids=STRICTER)
def test_what_xnnpack_does_not_run_sparse_is_refused_even_where_tfmot_takes_it(parts, cls, expected):
    with pytest.raises(ValueError, match=rf"layer 'probe' \({cls}\).*{expected}"):
        POLICY(mobile(keras, **parts))
    assert tfmot_accepts(**parts)


def test_a_raw_subtraction_is_refused():
    parts = {"middle": lambda k, x: x - 0.5}
    with pytest.raises(ValueError, match=r"layer 'subtract' \(Subtract\).*a raw operation of Add, Multiply"):
        POLICY(mobile(keras, **parts))
    assert tfmot_accepts(**parts)


def test_channels_first_is_refused():
    with pytest.raises(ValueError, match=r"layer 'probe' \(Conv2D\).*data_format 'channels_first'"):
        POLICY(mobile(keras, stem=stem(strides=2, data_format="channels_first")))
    pooling = named("GlobalAveragePooling2D", data_format="channels_first", keepdims=True)
    with pytest.raises(ValueError, match=r"layer 'probe' \(GlobalAveragePooling2D\).*data_format 'channels_last'"):
        POLICY(mobile(keras, head=lambda k, x: dense_head(k, k.layers.Multiply()([x, pooling(k, x)]))))


def test_the_message_says_what_was_expected_what_came_and_what_to_do():
    with pytest.raises(ValueError) as caught:
        POLICY(mobile(keras, middle=named("Activation", "tanh")))
    assert str(caught.value) == (
        "layer 'probe' (Activation): expected an activation of linear, relu, relu6, leaky_relu, elu, sigmoid, "
        "hard_silu, between the start and the end of sparse inference, received Activation with activation tanh on "
        "(None, 8, 8, 8) from Add. Change the layer, or prune without PruneForLatencyOnXNNPack: the zeros then save "
        "bytes, but no time."
    )


def test_operations_of_keras_3_are_known():
    ops = keras.ops
    for function in (ops.relu, ops.relu6, ops.leaky_relu, ops.elu, ops.sigmoid, ops.hard_silu):
        POLICY(mobile(keras, middle=lambda k, x: function(x)))
    POLICY(mobile(keras, middle=named("Activation", "hard_swish")))
    POLICY(mobile(keras, middle=named("Identity")))
    POLICY(mobile(keras, middle=lambda k, x: ops.multiply(ops.add(x, 1.0), x)))
    POLICY(mobile(keras, middle=named("Conv2D", 8, 1, activation=layers.LeakyReLU())))
    for function in (ops.tanh, ops.abs, ops.softmax):
        with pytest.raises(ValueError, match="a raw operation of"):
            POLICY(mobile(keras, middle=lambda k, x: function(x)))


def test_the_first_blocker_is_named_when_there_are_several():
    def two(k, x):
        return k.layers.MaxPooling2D(name="second")(k.layers.MaxPooling2D(name="first")(x))

    with pytest.raises(ValueError, match="layer 'first'"):
        POLICY(mobile(keras, middle=two))


def test_nested_models_are_looked_into():
    features = mobile(keras, head=nothing)
    features.name = "features"
    head = keras.Sequential(
        [keras.Input((4, 4, 16)), layers.GlobalAveragePooling2D(), layers.Dense(4, name="logits")], name="head"
    )
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, head(features(layers.Rescaling(2.0)(inputs))))
    allowed = {path for path, reason in POLICY(model).items() if not reason}
    assert allowed == {"features/expand", "features/project", "features/widen"}

    blocked = mobile(keras, middle=named("MaxPooling2D"), head=nothing)
    blocked.name = "features"
    head = keras.Sequential([keras.Input((None, None, 16)), layers.GlobalAveragePooling2D()], name="head")
    with pytest.raises(ValueError, match=r"layer 'features/probe' \(MaxPooling2D\)"):
        POLICY(keras.Model(inputs, head(blocked(inputs))))


def test_every_input_needs_a_start():
    image, meta = keras.Input((16, 16, 3), name="photo"), keras.Input((16,), name="meta")
    trunk = mobile(keras, head=dense_head)
    joined = layers.Concatenate()([trunk(image), layers.Dense(3, name="embed")(meta)])
    model = keras.Model([image, meta], layers.Dense(2)(joined))
    with pytest.raises(ValueError, match=rf"layer 'embed' \(Dense\).*{START}"):
        POLICY(model)
    other = keras.Input((16, 16, 3), name="other")
    both = keras.Model([image, other], layers.Concatenate()([trunk(image), trunk(other)]))
    assert POLICY(both)["mobile/widen"] == ""


def test_a_model_that_compression_has_wrapped_is_seen_through():
    mask = Mask(ConstantSparsity(0.5, 0))
    kernels = ("expand", "project", "stem")
    wrapped = compress(mobile(keras), lambda path, layer, chains: Choice({"kernel": [mask]} if path in kernels else {}))
    assert POLICY(wrapped) == POLICY(mobile(keras))


@pytest.mark.parametrize("name", [name for name in zoo.ZOO if name != "subclassed"])
def test_the_zoo_does_not_qualify_and_a_layer_says_why(name):
    model = zoo.ZOO[name]()
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(ValueError, match=rf"^layer '[\w/]+' \(\w+\): expected {START}"):
        POLICY(model)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True))


def test_a_subclassed_or_unbuilt_model_is_refused():
    with pytest.raises(ValueError, match=r"'subclassed_net' \(TwoLayerNet\).*Sequential or functional"):
        POLICY(zoo.subclassed())
    with pytest.raises(ValueError, match="a built model"):
        POLICY(keras.Sequential([layers.Conv2D(2, 1)]))
    with pytest.raises(TypeError, match="keras.Model"):
        POLICY(layers.Conv2D(2, 1))


def test_the_policy_is_a_config():
    assert Config.from_dict(POLICY.to_dict()) == POLICY == PruneForLatencyOnXNNPack()
    assert POLICY.to_dict() == {"class_name": "PruneForLatencyOnXNNPack", "config": {}}
