"""Models that repeat blocks, in the forms in which people write them."""

from __future__ import annotations

import keras
from keras import layers


def encoder(blocks: int = 4, width: int = 8, norm_first: bool = False) -> keras.Model:
    """A transformer encoder whose blocks are several calls in a graph, with raw additions."""
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    x = layers.Embedding(20, width, mask_zero=True, name="table")(tokens)
    for number in range(blocks):
        if norm_first:
            y = layers.LayerNormalization(name=f"norm_{number}")(x)
            x = x + layers.MultiHeadAttention(2, width // 2, name=f"attention_{number}")(y, y)
            y = layers.Dense(2 * width, "relu", name=f"in_{number}")(x)
            x = x + layers.Dense(width, name=f"out_{number}")(y)
        else:
            y = layers.MultiHeadAttention(2, width // 2, name=f"attention_{number}")(x, x)
            x = layers.LayerNormalization(name=f"norm_{number}")(layers.Add(name=f"add_{number}")([x, y]))
            y = layers.Dense(width, name=f"out_{number}")(layers.Dense(2 * width, "relu", name=f"in_{number}")(x))
            x = layers.LayerNormalization(name=f"last_{number}")(layers.Add(name=f"sum_{number}")([x, y]))
    x = layers.GlobalAveragePooling1D(name="mean")(x)
    return keras.Model(tokens, layers.Dense(3, name="head")(x))


@keras.saving.register_keras_serializable(package="tests")
class Listed(keras.Model):
    """Blocks in a list, counted by an attribute that the config holds."""

    def __init__(self, depth: int = 4, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.depth = depth
        self.blocks = [layers.Dense(8, "tanh") for _ in range(depth)]
        self.head = layers.Dense(3)

    def build(self, shape: tuple[int, ...]) -> None:
        for block in self.blocks:
            block.build((None, 8))
        self.head.build((None, 8))
        super().build(shape)

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        for number in range(self.depth):
            x = self.blocks[number](x)
        return self.head(x)

    def get_config(self) -> dict[str, object]:
        return {"depth": self.depth}
