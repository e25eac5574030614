"""Call spec: what a model is called with, by name, shape and dtype, and the one way to call it with that."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfgreen.errors import InvalidValueError, TfgreenError, invalid_state
from tfgreen.model.graph import layers_without_batch
from tfgreen.model.internals import input_layers
from tfgreen.model.paths import walk
from tfgreen.structure import CallSpec, InputSpec, leaf_names, name_leaves, pack
from tfgreen.typing import Tensor, Tensors

_PADDING = ("padding_mask", "attention_mask")  # as KerasHub calls it, and as others do


def read_call_spec(model: keras.Model) -> CallSpec:
    """What a built model is called with; raises as :func:`symbolic_inputs`.

    Example:
        >>> image, size = keras.Input((4, 4, 1), name="image"), keras.Input((2,), dtype="int32", name="size")
        >>> read_call_spec(keras.Model([image, size], image)).inputs[1]
        InputSpec(name='size', shape=(2,), dtype='int32')
    """
    model = _described(model)
    inputs, named = symbolic_inputs(model)
    is_graph = bool(getattr(model, "inputs", None))
    structure, tensors = name_leaves(named or inputs[0], lambda x, index: x.name if is_graph else f"input_{index}")
    named_tensors = zip(leaf_names(structure), tensors)
    specs = tuple(InputSpec(name, tuple(tensor.shape[1:]), str(tensor.dtype)) for name, tensor in named_tensors)
    sizes = [layer.batch_shape[0] for layer in keras.tree.flatten(input_layers(model))] if is_graph else []
    batch = next((size for size in sizes if size is not None), None)
    return CallSpec(structure, specs, bool(named), batch)


# How TensorFlow tells of ids that a table does not have, and of more positions than there are.
_NOT_HELD = (
    r"is not in \[0, |Expected size\[\d+\] in \[|out of range|out of bound|Incompatible shapes|"
    r"must be (?:equal|compatible)"
)


def call_model(model: keras.Model, spec: CallSpec, values: Mapping[str, Tensor], training: bool = False) -> Any:
    """Call a model on tensors of shape (batch, *input shape), by the names of its inputs.

    Example:
        >>> model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.ReLU()])
        >>> call_model(model, read_call_spec(model), {"x": keras.ops.ones((2, 3))}).shape
        TensorShape([2, 3])
    """
    packed = pack(spec.structure, values)
    try:
        if spec.batch is None and spec.by_keyword:
            return model(**packed, training=training)
        return model(packed, training=training)
    except (ValueError, TypeError, tf.errors.InvalidArgumentError) as error:
        count = next(iter(values.values())).shape[0]
        is_index = isinstance(error, tf.errors.InvalidArgumentError) and re.search(_NOT_HELD, str(error))
        if spec.batch in (None, count) and is_index:
            raise _cannot_run(model, values, str(error)) from error
        if isinstance(error, TfgreenError) or spec.batch in (None, count):
            raise
        raise invalid_state(
            f"model '{model.name}' fails on a batch of {count} samples: its batch size is fixed, {spec.batch}.",
            f"Pass batches of {spec.batch}, or build it anew with an open one (keras.Input(shape=...), layers without "
            "state) and new.set_weights(model.get_weights()).",
        ) from error


def _cannot_run(model: keras.Model, values: Mapping[str, Tensor], text: str) -> InvalidValueError:
    """The error for inputs that an operation of TensorFlow refuses: ids, or lengths, that a table does not have."""
    reasons = re.search(r"\{\{[^}]*\}\} ?(.*?) ?\[Op:", text, re.DOTALL)
    layer = re.search(r"when calling (\w+)\.call", text)
    where = f" in a layer of class {layer[1]}" if layer else ""
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    reason = (reasons[1] if reasons else text)[:300]
    return invalid_state(
        f"model '{model.name}' cannot run on inputs of shapes {shapes}: {reason}{where}.",
        "Pass what it was trained on: ids that its tables have, and sequences no longer than its positions.",
    )


def outputs_of(model: keras.Model, spec: CallSpec, arrays: Mapping[str, np.ndarray], size: int) -> list[np.ndarray]:
    """The outputs of a model in reading order, computed in batches of ``size`` or of what it fixes; or one by one, as a
    file runs samples, where a tensor has no batch axis, so that what is computed of it is that of each sample.

    Example:
        >>> x = keras.Input((3,), name="x")
        >>> model = keras.Model(x, keras.ops.mean(x))
        >>> outputs_of(model, read_call_spec(model), {"x": np.array([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]])}, 32)
        [array([2., 4.], dtype=float32)]
    """
    # A loop over time takes as long in Python, step by step, as its trace does, and more the longer it is.
    has_loops = any(isinstance(layer, keras.layers.RNN) for _, layer in walk(model))
    traced = tf.function(functools.partial(call_model, model, spec), autograph=False) if has_loops else None

    def run(part: slice) -> list[np.ndarray]:
        values = {name: array[part] for name, array in arrays.items()}
        result = None
        if traced is not None:
            with contextlib.suppress(Exception):  # which is raised below, in the words of the layer
                result = traced(values)
        if result is None:
            result = call_model(model, spec, values)
        return [np.atleast_1d(leaf) for leaf in name_leaves(result, lambda _, index: str(index))[1]]

    count = len(next(iter(arrays.values())))
    slices = spec.slices(count, size)
    parts, rows = [run(slices[0])], min(count, size)
    open_batch = spec.batch is None and rows > 1
    alone = run(slice(1)) if open_batch and not _are_rows(model, spec, parts[0], rows) else []
    shapes_differ = any(len(x) != rows * len(one) for x, one in zip(parts[0], alone))
    if shapes_differ or layers_without_batch(model):
        return [np.concatenate(output) for output in zip(*map(run, spec.slices(count, 1)))]
    for part in slices[1:]:
        again = len(parts) * (spec.batch or size) - part.start  # samples of the batch before
        parts.append([leaf[again:] for leaf in run(part)])
    return [np.concatenate(output) for output in zip(*parts)]


def _are_rows(model: keras.Model, spec: CallSpec, outputs: list[np.ndarray], rows: int) -> bool:
    """Whether outputs are known to have the batch axis first, without a run of one sample: loops take long."""
    tensors = keras.tree.flatten(getattr(model, "outputs", None) or [])
    closed = all(None not in item.shape for item in spec.inputs)  # else the open axis may be another one
    open_first = bool(tensors) and all(tuple(tensor.shape[:1]) == (None,) for tensor in tensors)
    return closed and open_first and all(len(x) == rows for x in outputs)


@contextlib.contextmanager
def keeping_state(model: keras.Model) -> Iterator[None]:
    """Set back what calls of a model change in the block: states, and seeds of random numbers.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5)])
        >>> with keeping_state(model):
        ...     _ = model(np.ones((1, 3)), training=True)
        >>> int(model.non_trainable_variables[0].numpy()[1])
        0
    """
    # The states of recurrent layers are none of the model's variables.
    states = keras.tree.flatten([getattr(layer, "states", None) or [] for _, layer in walk(model)])
    variables = [*model.non_trainable_variables, *(state for state in states if isinstance(state, keras.Variable))]
    # A tensor that was read shares the variable's memory until that is assigned.
    before = [(variable, tf.identity(variable.value)) for variable in variables]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def symbolic_inputs(model: keras.Model) -> tuple[tuple[Tensors, ...], dict[str, Tensors]]:
    """Positional and keyword inputs of a model as KerasTensors of one sample (batch size 1).

    Raises a ValueError if a subclassed model does not know its input shape.
    """
    model = _described(model)
    if getattr(model, "inputs", None):  # a functional or Sequential model
        return (keras.tree.map_structure(_one_sample, input_layers(model)),), {}
    built_from = model.get_build_config() or {}
    if built_from.get("input_shape") is not None:
        return (_spec(built_from["input_shape"]),), {}
    if built_from.get("shapes_dict"):
        return (), {k.removesuffix("_shape"): _spec(v) for k, v in built_from["shapes_dict"].items()}
    raise invalid_state(
        f"model '{model.name}' ({type(model).__name__}) does not know its input shape.",
        "Call it once on a batch of data.",
    )


def _described(model: keras.Model) -> keras.Model:
    """The model that knows what it is called with: of a wrapper, the one that it names as what it stands for."""
    return model if getattr(model, "inputs", None) else getattr(model, "stands_for", model)


def _one_sample(layer: keras.layers.InputLayer) -> keras.KerasTensor:
    return keras.KerasTensor((1, *layer.batch_shape[1:]), layer.dtype, name=layer.name)


def _spec(shape: Any) -> Any:
    """The inputs of a subclassed model, which records no dtypes: layers that need integers cast for themselves."""
    if isinstance(shape, dict):
        return {name: _spec(value) for name, value in shape.items()}
    if shape and isinstance(shape[0], (list, tuple, dict)):
        return [_spec(value) for value in shape]
    return keras.KerasTensor((1, *shape[1:]), "float32")


def padding_inputs(spec: CallSpec) -> list[str]:
    """Names of the inputs of shape (batch, length) that are 0 where a position of a sequence does not count.

    Example:
        >>> shapes = {"token_ids": (None,), "padding_mask": (None,)}
        >>> padding_inputs(CallSpec(list(shapes), tuple(InputSpec(k, v, "int32") for k, v in shapes.items())))
        ['padding_mask']
    """
    return [item.name for item in spec.inputs if len(item.shape) == 1 and item.name.endswith(_PADDING)]


def of_same_part(names: Iterable[str], where: str) -> list[str]:
    """Of the names of several inputs those of the part (encoder or decoder) of a model that a path or name is in.

    Example:
        >>> of_same_part(["encoder_padding_mask", "decoder_padding_mask"], "transformer_decoder_layer_0")
        ['decoder_padding_mask']
    """
    return [name for name in names if name.split("_")[0] in where]
