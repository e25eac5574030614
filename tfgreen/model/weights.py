"""The one table: which weights of a layer class can be compressed, and which axes are input and output channels.

A new layer class is one row, which its subclasses inherit. Of any other layer the trainable weights of rank 2 or more
can be compressed, and those of its sublayers (attention, recurrent layers, Bidirectional, a block of the user's).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import keras
from keras import layers

from tfgreen.model.paths import own_parameters, own_weights, walk, weights_by_path

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Axes:
    """Channel axes of a weight: ``inputs`` are summed over, ``outputs`` index what comes out.

    They count from the end, so that one row serves 1-D to 3-D convolutions.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Reasons:
    """Why a layer or a weight of it was left as it is: what ``tg.summary`` says."""

    NORMALIZES = "it normalizes and has no kernel"
    DEPTHWISE = "depthwise kernels are small and sensitive; they stay dense unless asked for"
    SLOPES = "it is an activation: its weights are slopes, not a kernel"
    NO_WEIGHTS = "it has no weights"
    NO_MATRIX = "it has no trainable weight of rank 2 or more"
    OTHER_WEIGHTS = "only {weights} of its layer is compressed unless asked for"
    NOT_PRUNABLE = "get_prunable_weights() of its layer leaves it out"
    NOT_COMPRESSED = "it was not compressed"
    SETTINGS = "the settings leave it out"
    NO_INPUTS = "criterion='{criterion}' knows no inputs that its weights multiply; give it another one by layers="
    FEW_CHANNELS = "{channels} input channels are too few for zeros with m_by_n={m_by_n}"
    ONE_INPUT = "each of its outputs has one weight: a scale for each would take as much as they do"
    FEW_WEIGHTS = "{where} has {size} weights, no more than the {clusters} clusters"
    EQUAL_WEIGHTS = "all its weights are equal"
    DEAD = "all its weights are zero: the layer is dead; leave it out, or ask for less"
    INTEGERS = "quantize() of Keras has made integers of its weights; compress the model before that"
    NEAREST = "rounded to nearest: method='{method}' knows no inputs that it multiplies"
    ADAPTER = "the LoRA adapter of another weight, with which it is compressed and merged"
    SHARED = "it is shared with '{other}', which is left as it is: {reason}"
    READ_UNSEEN = "'{other}' reads it out of reach of a transform; read it in a layer that holds it as an attribute"


_TABLES = ("embeddings", "position_embedding")  # names of tables of which rows are taken
_MATRIX, _TRANSPOSED = Axes(inputs=(-2,), outputs=(-1,)), Axes(inputs=(-1,), outputs=(-2,))
_VECTOR = Axes(inputs=(), outputs=(-1,))
_RECURRENT = {"kernel": _MATRIX, "recurrent_kernel": _MATRIX}

# Layer class -> weight name -> axes. A string instead says why the class has nothing to compress.
TABLE: Mapping[type[keras.Layer], Mapping[str, Axes] | str] = {
    **dict.fromkeys((layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D), {"kernel": _MATRIX}),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), {"kernel": _TRANSPOSED}),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), {"pointwise_kernel": _MATRIX}),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), Reasons.DEPTHWISE),
    layers.Embedding: {"embeddings": _MATRIX, "reverse_embeddings": _MATRIX},
    **dict.fromkeys((layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell), _RECURRENT),
    **dict.fromkeys((layers.BatchNormalization, layers.LayerNormalization), Reasons.NORMALIZES),
    **dict.fromkeys((layers.GroupNormalization, layers.UnitNormalization, layers.Normalization), Reasons.NORMALIZES),
    layers.PReLU: Reasons.SLOPES,
}


def compressible_weights(layer: keras.Layer) -> dict[str, Axes]:
    """The weights of a built layer or model that can be compressed, those of its sublayers included, with their axes.

    They go by the path within it (``"kernel"``, ``"cell/recurrent_kernel"``). A layer with a method
    ``get_prunable_weights()`` (TFMOT's name) that returns variables chooses them itself.

    Example:
        >>> dense = keras.layers.Dense(2); dense.build((None, 3))
        >>> compressible_weights(dense)
        {'kernel': Axes(inputs=(-2,), outputs=(-1,))}
    """
    found: dict[str, Axes] = {}
    for path, axes in _with_paths(layer, own_compressible):
        found.setdefault(path, axes)
    return found


def quantizable_weights(layer: keras.Layer) -> dict[str, tuple[int, ...]]:
    """The weights of a built layer or model that LiteRT stores as integers, by path as in
    :func:`compressible_weights`, with the axes of the channels that have a scale each: ``()`` where there is one scale.

    Example:
        >>> conv = keras.layers.DepthwiseConv2D(3); conv.build((None, 8, 8, 4))
        >>> quantizable_weights(conv)
        {'kernel': (-2, -1)}
    """
    found: dict[str, tuple[int, ...]] = {}
    for path, axes in _with_paths(layer, _own_quantizable):
        found[path] = axes if found.get(path, axes) == axes else ()  # two sublayers hold it, and each has other axes
    return found


def row_axes(layer: keras.Layer) -> dict[str, tuple[int, ...]]:
    """For each of :func:`compressible_weights` the axes of what has a scale of its own where weights alone are rounded:
    an output, or a row of a table that is looked up.

    Example:
        >>> table = keras.layers.Embedding(9, 4); table.build()
        >>> row_axes(table)
        {'embeddings': (0,)}
    """
    found: dict[str, tuple[int, ...]] = {}
    for path, axes in _with_paths(layer, _own_row_axes):
        found.setdefault(path, axes)
    return found


def _own_row_axes(layer: keras.Layer) -> Mapping[str, tuple[int, ...]]:
    # A layer of a class that is not listed adds a row to each position, or looks rows up.
    is_table = isinstance(layer, layers.Embedding) or _row(layer) is None
    own = own_compressible(layer).items()
    return {name: (0,) if is_table and name.endswith(_TABLES) else axes.outputs for name, axes in own}


def _own_quantizable(layer: keras.Layer) -> Mapping[str, tuple[int, ...]]:
    found = {name: axes.outputs for name, axes in own_compressible(layer).items()}
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        found["kernel"] = (-2, -1)
    elif isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        found["depthwise_kernel"] = (-2, -1)
    elif isinstance(layer, layers.Embedding):
        found["embeddings"] = ()
    return found


def _with_paths(layer: keras.Layer, own: Callable[[keras.Layer], Mapping[str, T]]) -> Iterator[tuple[str, T]]:
    """What ``own`` says of the weights of a layer and of each sublayer, by path as in ``weights_by_path``."""
    paths = {id(variable): path for path, variable in weights_by_path(layer).items()}
    for sub in [layer, *(sub for _, sub in walk(layer))]:
        weights = own_weights(sub)
        yield from [(paths[id(weights[name])], value) for name, value in own(sub).items()]


def channel_axis(layer: keras.Operation, rank: int) -> int:
    """The axis of the channels in the inputs and outputs, of a rank, of a layer."""
    return 1 if getattr(layer, "data_format", "") == "channels_first" else rank - 1


def reason_unchanged(layer: keras.Layer) -> str:
    """Why :func:`compressible_weights` is empty for a layer, as a phrase for the summary."""
    row = _row(layer)
    if isinstance(row, str):
        return row
    if _holds_integers(layer):
        return Reasons.INTEGERS
    return Reasons.NO_MATRIX if layer.weights else Reasons.NO_WEIGHTS


def _row(layer: keras.Layer) -> Mapping[str, Axes] | str | None:
    return next((TABLE[cls] for cls in type(layer).__mro__ if cls in TABLE), None)


def own_compressible(layer: keras.Layer) -> Mapping[str, Axes]:
    """As :func:`compressible_weights`, without the layer's sublayers."""
    weights = own_weights(layer)
    chosen = getattr(layer, "get_prunable_weights", None)
    if chosen is not None:
        wanted = {id(variable) for variable in chosen()}
        return {name: _MATRIX if len(v.shape) >= 2 else _VECTOR for name, v in weights.items() if id(v) in wanted}
    if _holds_integers(layer):
        return {}
    if isinstance(layer, layers.EinsumDense):
        return {"kernel": _einsum_axes(layer)}
    row = _row(layer)
    if isinstance(row, str):
        return {}
    if row is not None:
        return {name: axes for name, axes in row.items() if name in weights}
    found = {name: v for name, v in own_parameters(layer).items() if not name.endswith("bias")}
    return {name: _MATRIX for name, v in found.items() if len(v.shape) >= 2}


def _holds_integers(layer: keras.Layer) -> bool:
    return getattr(layer, "quantization_mode", None) in ("int8", "int4", "gptq", "awq")


def _einsum_axes(layer: layers.EinsumDense) -> Axes:
    """An axis of the kernel is an output channel if its letter is in the result of the equation, else it is summed."""
    _, letters, result = einsum_letters(layer)
    return Axes(
        inputs=tuple(i for i, letter in enumerate(letters) if letter not in result),
        outputs=tuple(i for i, letter in enumerate(letters) if letter in result),
    )


def einsum_letters(layer: layers.EinsumDense) -> tuple[str, str, str]:
    """The letters of the inputs, the kernel and the outputs in the equation of an EinsumDense.

    Example:
        >>> einsum_letters(layers.EinsumDense("ab, bc -> ac", 3))
        ('ab', 'bc', 'ac')
    """
    operands, outputs = layer.equation.replace(" ", "").split("->")
    inputs, kernel = operands.split(",")
    return inputs, kernel, outputs


def has_plain_weights(layer: keras.Operation) -> bool:
    """Whether a layer computes with its weights as they are: no integers of Keras's ``quantize()``, and no LoRA."""
    return not getattr(layer, "quantization_mode", None) and not getattr(layer, "lora_enabled", False)


def is_own(layer: keras.Operation, classes: tuple[type, ...]) -> bool:
    """Whether a layer computes as one of Keras's classes does: it is one, or a subclass that overrides nothing."""
    return isinstance(layer, classes) and all(
        getattr(type(layer), method).__module__.startswith("keras.")
        for method in ("call", "convolution_op", "_compute_attention", "_masked_softmax")
        if hasattr(type(layer), method)
    )
