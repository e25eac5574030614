"""Models of one layer or operation between two dense layers, and what removing channels must leave of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from tfgreen.model.paths import own_weights, walk
from tfgreen.model.rebuild import rebuild
from tfgreen.surgery.channel_groups import ChannelGroup, ChannelGroups, channel_groups
from tfgreen.surgery.remove_channels import remove_channels

Removed = list[tuple[ChannelGroup, np.ndarray]]


def randomized(model: keras.Model, seed: int = 0) -> keras.Model:
    """The model, all its weights, biases and statistics included, at random."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            is_variance = "variance" in weight.path
            weight.assign(rng.uniform(0.5, 2, weight.shape) if is_variance else rng.normal(0, 0.5, weight.shape))
    return model


def half(groups: Iterable[ChannelGroup], seed: int = 0) -> Removed:
    """Half of the channels that can go, of each group at random."""
    rng = np.random.default_rng(seed)
    removed = []
    for group in groups:
        free = [channel for channel in range(group.size) if not group.fixed[channel]]
        count = min(max(1, len(free) // 2), len(free), group.size - 1)
        if count:
            removed.append((group, rng.choice(free, count, replace=False)))
    return removed


def zeroed(model: keras.Model, removed: Removed) -> keras.Model:
    """A copy of the model in which all slices of weights that belong to the removed channels are 0."""
    copy = rebuild(model, lambda path, layer: layer)
    by_path = dict(walk(copy))
    for group, channels in removed:
        for edge in group.edges:
            weight = own_weights(by_path[edge.layer])[edge.weight]
            values = np.moveaxis(weight.numpy(), edge.axis, 0)
            values[edge.places[channels].ravel()] = 0
            weight.assign(np.moveaxis(values, 0, edge.axis))
    return copy


def outputs(model: keras.Model, x: object) -> list[np.ndarray]:
    return [np.asarray(tensor) for tensor in keras.tree.flatten(model.predict(x, verbose=0))]


def check_removal(model: keras.Model, x: object, tolerance: float = 1e-5) -> tuple[ChannelGroups, keras.Model]:
    """Remove half of the channels: what is left computes what the model does with these at 0."""
    groups = channel_groups(model)
    removed = half(groups)
    slim = remove_channels(model, groups.analysis, removed)
    for expected, got in zip(outputs(zeroed(model, removed), x), outputs(slim, x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(1e-3, np.abs(expected).max()))
    assert (slim.count_params() < model.count_params()) == bool(removed)
    return groups, slim


def between(part: Callable[[keras.KerasTensor], keras.KerasTensor], *shape: int, width: int = 8) -> keras.Model:
    """Inputs of a shape, a dense layer, a part, and at the end a dense layer on all that it returns."""
    inputs = keras.Input(shape)
    x = part(layers.Dense(width, name="first")(inputs))
    return randomized(keras.Model(inputs, layers.Dense(3, name="last")(layers.Flatten()(x))))


IMAGE, STEPS, FLAT = (4, 4, 3), (5, 3), (3,)


class Gated(layers.Layer):
    """A block as users write them: layers and raw operations in its own code."""

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.value, self.gate = layers.Dense(units), layers.Dense(units, "sigmoid")

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.value.build(shape)
        self.gate.build(shape)
        self.out = layers.Dense(shape[-1])
        self.out.build((*shape[:-1], self.units))

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return x + self.out(self.value(x) * self.gate(x))

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "units": self.units}


class Scaled(layers.Layer):
    """A block with weights of its own in its code."""

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(shape=(shape[-1],), name="gamma")
        self.matrix = self.add_weight(shape=(shape[-1], self.units), name="matrix")
        self.table = self.add_weight(shape=(4, self.units), name="table")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return ops.matmul(x * self.gamma, self.matrix) + ops.take(self.table, [1], axis=0)

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "units": self.units}


Part = tuple[tuple[int, ...], Callable[[keras.KerasTensor], keras.KerasTensor], bool]

# Module of rules -> name -> (shape of the inputs, part, whether the eight channels of the first layer can be removed).
PARTS: dict[str, dict[str, Part]] = {
    "kernels": {
        "dense": (FLAT, layers.Dense(6, "relu"), True),
        "conv1d": (STEPS, layers.Conv1D(6, 2, padding="causal"), True),
        "conv2d": (IMAGE, layers.Conv2D(6, 3, strides=2), True),
        "grouped": (IMAGE, layers.Conv2D(6, 3, groups=2), True),
        "group per channel": (IMAGE, layers.Conv2D(16, 3, groups=8), True),
        "conv3d": ((3, 3, 3, 2), layers.Conv3D(4, 2), True),
        "transposed": (IMAGE, layers.Conv2DTranspose(6, 3, strides=2), True),
        "transposed 1d": (STEPS, layers.Conv1DTranspose(6, 2), True),
        "depthwise": (IMAGE, layers.DepthwiseConv2D(3, depth_multiplier=2), True),
        "depthwise 1d": (STEPS, layers.DepthwiseConv1D(2), True),
        "separable": (IMAGE, layers.SeparableConv2D(6, 3, depth_multiplier=2), True),
        "einsum dense": (STEPS, layers.EinsumDense("abc,cde->abde", (5, 4, 3), bias_axes="de"), True),
        "einsum dense, any rank": (STEPS, layers.EinsumDense("...a,ab->...b", 6, bias_axes="b"), True),
        "dense with lora": (FLAT, layers.Dense(6, "relu", lora_rank=2), True),
        "conv2d with lora": (IMAGE, layers.Conv2D(6, 3, groups=2, lora_rank=2), True),
        "einsum dense with lora": (STEPS, layers.EinsumDense("abc,cde->abde", (5, 4, 3), lora_rank=2), True),
        "prelu": (IMAGE, layers.PReLU(shared_axes=[1, 2]), True),
    },
    "norms": {
        "batch norm": (IMAGE, layers.BatchNormalization(), True),
        "group norm": (IMAGE, layers.GroupNormalization(4), True),
        "instance norm": (IMAGE, layers.GroupNormalization(-1), True),
        "layer norm": (STEPS, layers.LayerNormalization(), False),
        "rms norm": (STEPS, layers.RMSNormalization(), False),
        "softmax": (FLAT, layers.Softmax(), False),
        "masking": (STEPS, lambda x: layers.LSTM(4)(layers.Masking()(x)), False),
    },
    "sequences": {
        "lstm": (STEPS, layers.LSTM(5, return_sequences=True), True),
        "gru": (STEPS, layers.GRU(5), True),
        "gru, reset before": (STEPS, layers.GRU(5, reset_after=False), True),
        "simple rnn": (STEPS, layers.SimpleRNN(5), True),
        "bidirectional": (STEPS, layers.Bidirectional(layers.LSTM(4)), True),
        "bidirectional, added": (STEPS, layers.Bidirectional(layers.GRU(4), merge_mode="sum"), True),
        "time distributed": (STEPS, layers.TimeDistributed(layers.Dense(6, "relu")), True),
        "attention": (STEPS, lambda x: layers.MultiHeadAttention(4, 3)(x, x), False),
        "grouped attention": (STEPS, lambda x: layers.GroupQueryAttention(3, 4, 2)(x, x), False),
    },
    "layouts": {
        "pooling": (IMAGE, layers.MaxPooling2D(2), True),
        "global pooling": (IMAGE, layers.GlobalAveragePooling2D(), True),
        "resizing": (IMAGE, layers.Resizing(6, 6), True),
        "random flip": (IMAGE, layers.RandomFlip(), True),
        "upsampling": (IMAGE, layers.UpSampling2D(2), True),
        "reshape": ((6, 3), layers.Reshape((2, 3, 8)), True),
        "reshape to channels": ((6, 3), layers.Reshape((4, 12)), True),
        "permute": (STEPS, layers.Permute((2, 1)), True),
        "repeat": (FLAT, layers.RepeatVector(3), True),
        "block": (FLAT, Gated(6), True),
    },
    "operations": {
        "x + x": (FLAT, lambda x: x + x * 2, True),
        "mean of channels": (STEPS, lambda x: ops.mean(x, axis=-1), False),
        "mean of steps": (STEPS, lambda x: ops.mean(x, axis=1), True),
        "glu": (STEPS, lambda x: ops.glu(x), True),
        "own weights": (STEPS, Scaled(6), True),
        "constant per channel": (FLAT, lambda x: x * np.arange(8, dtype="float32"), False),
    },
    "products": {
        "matmul": (STEPS, lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))), True),
        "matmul of what is not zero": (STEPS, lambda x: ops.matmul(ops.exp(x), ops.transpose(x, (0, 2, 1))), False),
        "einsum": (STEPS, lambda x: ops.einsum("bic,bjc->bij", x, x), True),
        "einsum of what is not zero": (STEPS, lambda x: ops.einsum("bic,bjc->bij", *[layers.ELU()(x) + 1] * 2), False),
        "dot": (STEPS, lambda x: layers.Dot(2)([x, ops.tanh(x)]), True),
        "dot of what is not zero": (STEPS, lambda x: layers.Dot(2)([ops.sigmoid(x), x]), False),
        "attention layer": (STEPS, lambda x: layers.Attention(use_scale=True)([x, ops.tanh(x)]), True),
        "additive attention": (STEPS, lambda x: layers.AdditiveAttention()([x, ops.tanh(x), ops.relu(x)]), True),
    },
    "moves": {
        "slice": (FLAT, lambda x: x[:, 2:6] * 3, True),
        "two slices": (FLAT, lambda x: layers.Concatenate()([x[..., 5:], x[..., :-3]]), True),
        "split": (FLAT, lambda x: ops.multiply(*ops.split(x, 2, axis=-1)), True),
        "reversed": (FLAT, lambda x: ops.flip(x, axis=-1) + x, True),
        "transpose": (STEPS, lambda x: ops.transpose(x, (0, 2, 1)), True),
        "move axis": (IMAGE, lambda x: ops.moveaxis(x, -1, 1), True),
        "expand, squeeze": (FLAT, lambda x: ops.squeeze(ops.expand_dims(x, 1), 1), True),
        "raw reshape": ((6, 3), lambda x: ops.reshape(x, (-1, 48)), True),
        "stack": (FLAT, lambda x: ops.stack([x, ops.tanh(x)], axis=1), True),
        "take of steps": (STEPS, lambda x: ops.take(x, [0, 2], axis=1), True),
        "take of channels": (STEPS, lambda x: ops.take(x, [0, 2], axis=2), False),
        "channels by position": (FLAT, lambda x: x[:, 3:5], True),
    },
}
# How many sets the eight channels are, where some can only be removed together.
COUPLED = {"grouped": 4, "conv2d with lora": 4, "group norm": 4, "split": 4, "reversed": 4, "reshape to channels": 4}
COUPLED["glu"] = 4


def check_part(module: str, name: str, folder: Path) -> None:
    """Remove half of the channels around a part: the rest computes the same, saved and loaded too."""
    shape, part, is_free = PARTS[module][name]
    model = between(part, *shape)
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
    groups, slim = check_removal(model, x)
    first = [group for group in groups if group.name == "first"]
    assert sum(group.size for group in first) == COUPLED.get(name, 8)
    assert any(group.removable for group in first) == is_free
    assert all(group.reason for group in groups if not group.removable)
    slim.save(folder / "slim.keras")
    custom = {type(layer).__name__: type(layer) for layer in slim.layers}
    again = keras.models.load_model(folder / "slim.keras", custom_objects=custom)
    np.testing.assert_array_equal(again.predict(x, verbose=0), slim.predict(x, verbose=0))
