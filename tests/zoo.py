"""Small models of every kind a user brings; the contract suite runs each verb over each of them.

``ZOO`` maps a name to a builder. Every model is built, small enough to train a step in well under a second, and takes
inputs that :func:`sample` makes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers


@keras.saving.register_keras_serializable(package="zoo")
class ScaledDense(layers.Layer):
    """A custom layer that tfgreen has no row for: one matrix, one vector."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple) -> None:
        self.matrix = self.add_weight(shape=(input_shape[-1], self.units), name="matrix", initializer="glorot_uniform")
        self.scale = self.add_weight(shape=(self.units,), name="scale", initializer="ones")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.matrix) * self.scale

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="zoo")
class TwoLayerNet(keras.Model):
    """A subclassed model with a list of layers and dropout."""

    def __init__(self, units: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.blocks = [layers.Dense(units, activation="relu"), layers.Dense(units, activation="relu")]
        self.dropout = layers.Dropout(0.2)
        self.head = layers.Dense(4, activation="softmax")

    def call(self, x: Any, training: bool | None = None) -> Any:
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(x, training=training))

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ],
        name="sequential_net",
    )


def functional() -> keras.Model:
    x = inputs = keras.Input((12,))
    x = layers.Dense(16, activation="relu", name="hidden")(x)
    x = layers.Dropout(0.1)(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="probabilities")(x), name="functional_net")


def residual() -> keras.Model:
    inputs = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.Activation("relu")(layers.Add()([x, inputs]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="residual_net")


def concat() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    branches = [layers.Conv2D(4, k, padding="same", activation="relu")(inputs) for k in (1, 3, 5)]
    x = layers.Concatenate()(branches)
    x = layers.AveragePooling2D(2)(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.Flatten()(x)), name="concat_net")


def separable() -> keras.Model:
    inputs = keras.Input((8, 8, 4))
    x = layers.SeparableConv2D(8, 3, padding="same", activation="relu")(inputs)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2DTranspose(4, 2, strides=2)(layers.ReLU(max_value=6.0)(x))
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="separable_net")


def nested() -> keras.Model:
    features = keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Conv2D(6, 3, activation="relu"), layers.GlobalAveragePooling2D()],
        name="features",
    )
    inner_in = keras.Input((6,))
    head = keras.Model(inner_in, layers.Dense(4, activation="softmax", name="logits")(inner_in), name="head")
    inputs = keras.Input((6, 6, 3))
    return keras.Model(inputs, head(features(inputs)), name="nested_net")


def shared_layer() -> keras.Model:
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    shared = layers.Dense(8, activation="relu", name="shared")
    x = layers.Concatenate()([shared(left), shared(right)])
    return keras.Model([left, right], layers.Dense(4, activation="softmax")(x), name="shared_net")


def multi_io() -> keras.Model:
    image, meta = keras.Input((8, 8, 1), name="image"), keras.Input((3,), name="meta")
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(image))
    x = layers.Concatenate()([x, layers.Dense(5, activation="relu")(meta)])
    outputs = {"label": layers.Dense(4, activation="softmax", name="label")(x), "size": layers.Dense(1, name="size")(x)}
    return keras.Model({"image": image, "meta": meta}, outputs, name="multi_io_net")


def subclassed() -> keras.Model:
    model = TwoLayerNet(8, name="subclassed_net")
    model(np.zeros((1, 6), "float32"))
    return model


def lstm() -> keras.Model:
    inputs = keras.Input((5, 4))
    x = layers.LSTM(6, return_sequences=True)(inputs)
    x = layers.Bidirectional(layers.GRU(4))(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="lstm_net")


def attention() -> keras.Model:
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(20, 8)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(num_heads=2, key_dim=4)(x, x))
    x = layers.Dense(8, activation="gelu")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(tokens, layers.Dense(4, activation="softmax")(x), name="attention_net")


def batchnorm() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((10, 3)),
            layers.Conv1D(6, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(8),
            layers.BatchNormalization(),
            layers.Activation("relu"),
            layers.Dense(4, activation="softmax"),
        ],
        name="batchnorm_net",
    )


def custom_layer() -> keras.Model:
    inputs = keras.Input((6,))
    x = layers.ReLU()(ScaledDense(8, name="scaled")(inputs))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="custom_net")


ZOO: dict[str, Callable[[], keras.Model]] = {
    build.__name__: build
    for build in (
        sequential,
        functional,
        residual,
        concat,
        separable,
        nested,
        shared_layer,
        multi_io,
        subclassed,
        lstm,
        attention,
        batchnorm,
        custom_layer,
    )
}


QUICK = ("residual", "nested", "multi_io", "subclassed", "lstm", "custom_layer")


def slow(*values: Any) -> list[Any]:
    """Parameters of a test that only the slow run takes."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def mostly_slow(*others: str) -> list[Any]:
    """The names of the zoo for a test that takes minutes over all of it: a model of each kind, the others as slow, and
    those given."""
    quick = [name for name in QUICK if name not in others]
    return [*quick, *slow(*(name for name in ZOO if name not in quick))]


def one_in(every: int, cases: Iterable[Any]) -> list[Any]:
    """The cases of a test that takes minutes over all of them: one in so many, and the others as slow."""
    cases = list(cases)
    return [*cases[::every], *slow(*(case for place, case in enumerate(cases) if place % every))]


def spoiled(value: float) -> keras.Model:
    """The functional model with two weights of ``hidden`` that are not finite."""
    model = functional()
    kernel = model.get_layer("hidden").kernel.numpy()
    kernel[0, :2] = value
    model.get_layer("hidden").kernel.assign(kernel)
    return model


def sample(name: str, count: int = 8, seed: int = 0) -> Any:
    """Inputs for ``ZOO[name]``: float32 of unit variance, or token ids, in the structure the model takes."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=(count, *shape)).astype("float32")

    if name == "shared_layer":
        return [normal(6), normal(6)]
    if name == "multi_io":
        return {"image": normal(8, 8, 1), "meta": normal(3)}
    if name == "attention":
        return rng.integers(0, 20, size=(count, 6)).astype("int32")
    shapes = {
        "sequential": (8, 8, 3),
        "functional": (12,),
        "residual": (8, 8, 4),
        "concat": (8, 8, 3),
        "separable": (8, 8, 4),
        "nested": (6, 6, 3),
        "subclassed": (6,),
        "lstm": (5, 4),
        "batchnorm": (10, 3),
        "custom_layer": (6,),
    }
    return normal(*shapes[name])


def targets(name: str, count: int = 8, seed: int = 1) -> Any:
    """Integer labels of four classes (and a regression target for ``multi_io``), in the structure of the outputs."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, size=(count,))
    if name == "multi_io":
        return {"label": labels, "size": rng.normal(size=(count, 1)).astype("float32")}
    return labels


def loss(name: str) -> Any:
    """The loss that goes with :func:`targets`."""
    if name == "multi_io":
        return {"label": "sparse_categorical_crossentropy", "size": "mse"}
    return "sparse_categorical_crossentropy"
