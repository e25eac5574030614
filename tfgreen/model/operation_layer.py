"""OperationLayer: a raw operation of a graph (``x + y``) as a layer, so that it can be wrapped as layers are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import keras

from tfgreen.typing import PlainDict, Tensors


@keras.saving.register_keras_serializable(package="tfgreen")
class OperationLayer(keras.layers.Layer):
    """A layer that calls an operation without weights, as ``x + y`` on the tensors of a graph makes them."""

    def __new__(cls, operation: keras.Operation, *args: object, **kwargs: object) -> OperationLayer:
        instance = super().__new__(cls, operation, *args, **kwargs)
        instance.call = with_signature_of(operation, instance.call)
        return instance

    def __init__(self, operation: keras.Operation, **kwargs: object) -> None:
        super().__init__(**{"name": operation.name, **kwargs}, autocast=False)
        self.operation = operation
        self.supports_masking = True  # an operation takes no mask and passes none on
        self.built = True

    def arguments(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The arguments of a call, those of ``x * 2`` by name: a Keras layer takes only tensors by position."""
        if all(keras.tree.flatten(arg) and all(map(_is_tensor, keras.tree.flatten(arg))) for arg in args):
            return args, kwargs
        return (), dict(inspect.signature(self.operation.call).bind(*args, **kwargs).arguments)

    def call(self, *args: object, training: bool | None = None, **kwargs: object) -> Any:
        return self.operation(*args, **kwargs)

    def compute_mask(self, inputs: Tensors, previous_mask: Tensors | None = None) -> None:
        return None

    def compute_output_spec(self, *args: object, training: bool | None = None, **kwargs: object) -> Any:
        return self.operation.compute_output_spec(*args, **kwargs)

    def get_config(self) -> PlainDict:
        return {**super().get_config(), "operation": keras.saving.serialize_keras_object(self.operation)}

    @classmethod
    def from_config(cls, config: PlainDict) -> OperationLayer:
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("operation")), **config)


def _is_tensor(value: object) -> bool:
    return isinstance(value, keras.KerasTensor) or keras.ops.is_tensor(value)


def with_signature_of(layer: keras.Operation, call: Callable) -> Callable:
    """``call`` under the signature of a layer's own, with ``training`` if that lacks it."""

    @functools.wraps(layer.call)
    def wrapper(*args: object, **kwargs: object) -> Any:
        return call(*args, **kwargs)

    signature = inspect.signature(layer.call)
    if "training" not in signature.parameters:
        training = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None)
        parameters = sorted([*signature.parameters.values(), training], key=lambda parameter: parameter.kind)
        signature = signature.replace(parameters=parameters)
    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    return wrapper
