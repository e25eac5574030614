"""LoRA: a chain transforms what a layer computes with, which is its frozen kernel and the adapter's product together.

Keras's ``enable_lora`` freezes a weight and trains two small ones, ``a`` and ``b``: the layer computes with
``w + scale * a @ b``. A chain on ``w`` alone would leave zeros that the product fills, and values that it moves. Under
a chain the adapter trains on, and it is merged into the weight when that is baked.

Reference: E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, arXiv:2106.09685.
"""

from __future__ import annotations

import dataclasses

import keras

from tfgreen.model.internals import untrack
from tfgreen.model.paths import own_weights, walk
from tfgreen.typing import Tensor


@dataclasses.dataclass(frozen=True)
class Adapter:
    """What is added to a weight of a layer: ``scale * a @ b``."""

    layer: keras.Layer
    a: keras.Variable
    b: keras.Variable

    def added_to(self, weight: Tensor) -> Tensor:
        """A weight and the adapter's product, in the dtype of the weight."""
        scale = self.layer.lora_alpha / self.layer.lora_rank
        return weight + keras.ops.cast(scale * keras.ops.matmul(self.a.value, self.b.value), weight.dtype)

    def remove(self) -> None:
        """Leave the layer as one on which LoRA was never enabled."""
        layer = self.layer
        for variable in (self.a, self.b):
            untrack(layer, variable)
            setattr(layer, variable.name, None)  # to delete a variable takes Keras a collection of all garbage
            delattr(layer, variable.name)
        layer.lora_enabled, layer.lora_rank, layer.lora_alpha = False, None, None


def adapters(layer: keras.Layer) -> dict[int, Adapter]:
    """The adapters of a layer and its sublayers, by ``id`` of the weight that each is added to.

    Example:
        >>> dense = keras.layers.Dense(2)
        >>> dense.build((None, 3))
        >>> dense.enable_lora(1)
        >>> [tuple(adapter.a.shape) for adapter in adapters(dense).values()]
        [(3, 1)]
    """
    found = {}
    for sub in [layer, *(sub for _, sub in walk(layer))]:
        if not getattr(sub, "lora_enabled", False) or getattr(sub, "quantization_mode", None):
            continue
        weights = own_weights(sub)
        for name in ("kernel", "embeddings"):
            if {name, f"lora_{name}_a", f"lora_{name}_b"} <= set(weights):
                found[id(weights[name])] = Adapter(sub, weights[f"lora_{name}_a"], weights[f"lora_{name}_b"])
    return found


def merged_value(layer: keras.Layer, variable: keras.Variable) -> Tensor:
    """A weight of a layer as that computes with it where no chain is on it."""
    adapter = adapters(layer).get(id(variable))
    return variable.value if adapter is None else adapter.added_to(variable.value)


def is_of_adapter(layer: keras.Layer, variable: keras.Variable) -> bool:
    """Whether a weight of a layer or its sublayers is one of the two that LoRA trains."""
    return any(variable is part for adapter in adapters(layer).values() for part in (adapter.a, adapter.b))


def merge_adapters(layer: keras.Layer) -> None:
    """Add every adapter of a layer to its weight, and remove it."""
    weights = {id(variable): variable for variable in layer.weights}
    for key, adapter in adapters(layer).items():
        weights[key].assign(adapter.added_to(weights[key].value))
        weights[key].trainable = True
        adapter.remove()
