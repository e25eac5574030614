"""The table of all rules."""

from __future__ import annotations

import keras
from keras import layers

from tfgreen.model.weights import is_own
from tfgreen.quantization.op_classes import operation_name
from tfgreen.surgery.rules import kernels, layouts, moves, norms, operations, products, sequences
from tfgreen.surgery.rules.common import Rule

_MODULES = (kernels, norms, sequences, layouts, operations, products, moves)
_OF_LAYERS = {cls: rule for module in _MODULES for cls, rule in module.RULES.of_layers.items()}
_OF_OPERATIONS = {name: rule for module in _MODULES for name, rule in module.RULES.of_operations.items()}


def rule_of(operation: keras.Operation) -> Rule | None:
    """The rule for a layer or raw operation.

    None for a class that has none, for a subclass that overrides how its layer computes, and for a layer that Keras's
    ``quantize()`` has given integers.
    """
    if not isinstance(operation, keras.Layer):
        return _OF_OPERATIONS.get(operation_name(operation))
    cls = next((cls for cls in type(operation).__mro__ if cls in _OF_LAYERS), None)
    if cls is None or not is_own(operation, (cls,)):
        return None
    return None if getattr(operation, "quantization_mode", None) else _OF_LAYERS[cls]


def has_rule(layer: keras.Layer) -> bool:
    """Whether a layer is taken as it is; any other layer with layers or code of its own is looked into."""
    module = type(layer).__module__
    is_keras = module.startswith("keras.") and ".applications." not in module and not isinstance(layer, keras.Model)
    return is_keras or isinstance(layer, layers.Wrapper) or rule_of(layer) is not None
