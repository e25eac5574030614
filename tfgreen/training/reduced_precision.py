"""Mixed precision for a model that is built: layers compute in 16 bits while it trains, and weights stay float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import keras
import tensorflow as tf

from tfgreen.model.internals import history_of
from tfgreen.model.paths import walk

# NVIDIA's compute capability from which a GPU multiplies in the dtype at full speed (Volta; Ampere).
_CAPABILITY = {"float16": (7, 0), "bfloat16": (8, 0)}


def why_no_gain(dtype: Literal["bfloat16", "float16"]) -> str:
    """Why computing in ``dtype`` gains nothing on this machine, empty where it does."""
    if tf.config.list_logical_devices("TPU"):
        return "" if dtype == "bfloat16" else "a TPU computes in bfloat16"
    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return f"there is no GPU, and a CPU takes longer in {dtype} than in float32"
    for device in devices:
        capability = tf.config.experimental.get_device_details(device).get("compute_capability", (0, 0))
        if capability < _CAPABILITY[dtype]:
            return f"{device.name} has no units for {dtype}"
    return ""


@contextlib.contextmanager
def computing_in(model: keras.Model, dtype: Literal["bfloat16", "float16"]) -> Iterator[None]:
    """In the block, the float32 layers of a built and compiled model compute in ``dtype``, but those of its outputs.

    With float16 the loss is scaled, so that small gradients are not lost.
    """
    tensors = keras.tree.flatten(getattr(model, "outputs", None) or [])
    last = {id(history_of(tensor).operation) for tensor in tensors}
    layers = [layer for _, layer in walk(model) if id(layer) not in last]
    changed = [(layer, layer.dtype_policy) for layer in layers if layer.dtype_policy.name == "float32"]
    optimizer = model.optimizer
    scales = dtype == "float16" and not isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    for layer, _ in changed:
        layer.dtype_policy = keras.DTypePolicy(f"mixed_{dtype}")
    if scales:
        model.optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    try:
        yield
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy
        model.optimizer = optimizer
