"""Call spec: what a model is called with, by name, shape and dtype, and the one way to call it with that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from tfgreen.errors import invalid_state
from tfgreen.model.internals import input_layers
from tfgreen.structure import CallSpec, InputSpec, leaf_names, name_leaves, pack
from tfgreen.typing import Tensor, Tensors


def read_call_spec(model: keras.Model) -> CallSpec:
    """What a built model is called with; raises as :func:`symbolic_inputs`.

    Example:
        >>> image, size = keras.Input((4, 4, 1), name="image"), keras.Input((2,), dtype="int32", name="size")
        >>> read_call_spec(keras.Model([image, size], image)).inputs[1]
        InputSpec(name='size', shape=(2,), dtype='int32')
    """
    inputs, named = symbolic_inputs(model)
    is_graph = bool(getattr(model, "inputs", None))
    structure, tensors = name_leaves(named or inputs[0], lambda x, index: x.name if is_graph else f"input_{index}")
    named_tensors = zip(leaf_names(structure), tensors)
    specs = tuple(InputSpec(name, tuple(tensor.shape[1:]), str(tensor.dtype)) for name, tensor in named_tensors)
    return CallSpec(structure, specs, by_keyword=bool(named))


def call_model(model: keras.Model, spec: CallSpec, values: Mapping[str, Tensor], training: bool = False) -> Any:
    """Call a model on tensors of shape (batch, *input shape), by the names of its inputs.

    Example:
        >>> model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.ReLU()])
        >>> call_model(model, read_call_spec(model), {"x": keras.ops.ones((2, 3))}).shape
        TensorShape([2, 3])
    """
    packed = pack(spec.structure, values)
    return model(**packed, training=training) if spec.by_keyword else model(packed, training=training)


def symbolic_inputs(model: keras.Model) -> tuple[tuple[Tensors, ...], dict[str, Tensors]]:
    """Positional and keyword inputs of a model as KerasTensors of one sample (batch size 1).

    Raises a ValueError if a subclassed model does not know its input shape.
    """
    if getattr(model, "inputs", None):  # a functional or Sequential model
        return (keras.tree.map_structure(_one_sample, input_layers(model)),), {}
    model = getattr(model, "stands_for", model)  # a wrapper that names the model it stands for
    built_from = model.get_build_config() or {}
    if built_from.get("input_shape") is not None:
        return (_spec(built_from["input_shape"]),), {}
    if built_from.get("shapes_dict"):
        return (), {k.removesuffix("_shape"): _spec(v) for k, v in built_from["shapes_dict"].items()}
    raise invalid_state(
        f"model '{model.name}' ({type(model).__name__}) does not know its input shape.",
        "Call it once on a batch of data.",
    )


def _one_sample(layer: keras.layers.InputLayer) -> keras.KerasTensor:
    return keras.KerasTensor((1, *layer.batch_shape[1:]), layer.dtype, name=layer.name)


def _spec(shape: Any) -> Any:
    """The inputs of a subclassed model, which records no dtypes: layers that need integers cast for themselves."""
    if isinstance(shape, dict):
        return {name: _spec(value) for name, value in shape.items()}
    if shape and isinstance(shape[0], (list, tuple, dict)):
        return [_spec(value) for value in shape]
    return keras.KerasTensor((1, *shape[1:]), "float32")
