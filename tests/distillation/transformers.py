"""Small transformers, of Keras's own layers and with the inputs that KerasHub's have, as teachers and students."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

LENGTH = 6


@keras.saving.register_keras_serializable(package="tests")
class Block(layers.Layer):
    """A transformer layer that takes a padding mask as KerasHub's do."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0, causal: bool = False, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.width, self.heads, self.dropout, self.causal = width, heads, dropout, causal
        self.attention = layers.MultiHeadAttention(heads, width // heads, dropout=dropout)
        self.dense = layers.Dense(width, "relu")

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.attention.build(shape, shape)
        self.dense.build(shape)

    def call(self, x: keras.KerasTensor, padding_mask: keras.KerasTensor | None = None) -> keras.KerasTensor:
        mask = None if padding_mask is None else ops.cast(padding_mask, "bool")[:, None, :]
        return x + self.dense(self.attention(x, x, attention_mask=mask, use_causal_mask=self.causal))

    def get_config(self) -> dict[str, object]:
        names = ("width", "heads", "dropout", "causal")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def transformer(
    width: int = 8, heads: int = 2, blocks: int = 4, masked: str = "input", length: int | None = None, **block: object
) -> keras.Model:
    """A classifier of tokens, ``(batch, length, 3)``; ``masked`` is ``"input"``, ``"keras"`` or ``""``."""
    tokens = keras.Input((length,), dtype="int32", name="token_ids")
    mask = keras.Input((length,), dtype="int32", name="padding_mask") if masked == "input" else None
    x = layers.Embedding(20, width, mask_zero=masked == "keras", name="table")(tokens)
    for number in range(blocks):
        x = Block(width, heads, name=f"block_{number}", **block)(x, **({} if mask is None else {"padding_mask": mask}))
    inputs = tokens if mask is None else {"token_ids": tokens, "padding_mask": mask}
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def batch(count: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = (np.arange(LENGTH) < rng.integers(2, LENGTH + 1, (count, 1))).astype("int32")
    mask[0] = np.arange(LENGTH) < 3
    return {"token_ids": rng.integers(1, 20, (count, LENGTH)).astype("int32"), "padding_mask": mask}


def loss_of(distiller: keras.Model, x: object) -> float:
    """The distillation loss of a batch."""
    distiller.compile("sgd")
    distiller.evaluate(x, verbose=0)
    return float(distiller.distillation_loss_tracker.result())
