"""profile: what a model costs on paper, layer by layer: parameters, MACs, bytes, non-zero weights.

A MAC is one multiply-accumulate of a matrix product or convolution, for one sample. Elementwise work (activations,
normalization, pooling, additions) is not counted, as is usual in published tables.
"""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
from keras import layers

from tfgreen.model.call_spec import read_call_spec, symbolic_inputs
from tfgreen.model.layer_calls import trace_calls
from tfgreen.model.macs import count_macs
from tfgreen.model.paths import check_built_model, join_path, own_weights, walk, weights_by_path
from tfgreen.tables import RowResult, TableResult
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True)
class LayerCost(RowResult):
    """Cost of one layer, without its sublayers.

    Attributes:
        path, class_name: Where the layer is (``"encoder/conv"``), and its class.
        parameters: Number of weights, trainable or not.
        nonzeros: How many of them are not zero.
        size_bytes: What they take in the dtype they are stored in.
        macs: Multiply-accumulates for one sample over all calls of the layer; None if they cannot be counted.
        reason: Why ``macs`` is None, or "".
    """

    path: str
    class_name: str
    parameters: int
    nonzeros: int
    size_bytes: int
    macs: int | None
    reason: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class ModelProfile(TableResult):
    """Costs of all layers of a model; a table when printed.

    Attributes:
        name: The model's name.
        layers: One :class:`LayerCost` for each layer that has weights, MACs, or a reason why they are unknown.
    """

    name: str
    layers: tuple[LayerCost, ...]

    _headings = ("layer", "class", "parameters", "non-zero", "bytes", "MACs")
    _left = 2

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def nonzeros(self) -> int:
        return sum(layer.nonzeros for layer in self.layers)

    @property
    def size_bytes(self) -> int:
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def macs(self) -> int | None:
        """Sum over the layers; None as soon as one of them is unknown, since a partial sum would mislead."""
        known = [layer.macs for layer in self.layers if layer.macs is not None]
        return sum(known) if len(known) == len(self.layers) else None

    def to_dict(self) -> PlainDict:
        """Plain values, fit for JSON."""
        totals = {name: getattr(self, name) for name in ("name", "parameters", "nonzeros", "size_bytes", "macs")}
        return {**totals, "layers": [dataclasses.asdict(layer) for layer in self.layers]}

    def _rows(self) -> list[tuple[str, ...]]:
        total = LayerCost("total", "", self.parameters, self.nonzeros, self.size_bytes, self.macs)
        return [
            (c.path, c.class_name, f"{c.parameters:,}", f"{c.nonzeros:,}", f"{c.size_bytes:,}", _number(c.macs))
            for c in (*self.layers, total)
        ]

    def _remarks(self) -> list[str]:
        return [f"{c.path}: MACs unknown, {c.reason}" for c in self.layers if c.macs is None]

    def _headline(self) -> str:
        return f"'{self.name}', {self.parameters:,} parameters, {_number(self.macs)} MACs, {self.size_bytes:,} bytes"


def profile(model: keras.Model) -> ModelProfile:
    """Count parameters, MACs, bytes and non-zero weights of every layer of a built model; ``print`` shows a table.

    The model is traced on one symbolic batch, so nested, shared and subclassed models are counted by what they really
    run; a shared layer's MACs are those of all its calls. Layers that compress (``tg.prune``) are counted as the layer
    they hold. In a ``call`` of your own the matrix products and convolutions of the traced graph are counted.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: It is not built, or is subclassed and does not know its input shape.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> profile(model).macs
        32
    """
    check_built_model(model)
    batch = read_call_spec(model).batch or 1  # of a model that fixes it, such as one with state
    args, kwargs = keras.tree.map_structure(
        lambda x: keras.KerasTensor((batch, *x.shape[1:]), x.dtype, name=x.name), symbolic_inputs(model)
    )
    macs = count_macs(trace_calls(model, *args, **kwargs), batch)
    costs = []
    for path, layer in profiled_layers(model):
        weights = weights_by_path(layer) if isinstance(layer, layers.RNN) else own_weights(layer)
        count, reason = macs.get(id(layer), (0, ""))
        if weights or count or reason:
            arrays = [keras.ops.convert_to_numpy(variable) for variable in weights.values()]
            nonzeros, size_bytes = sum(int(np.count_nonzero(a)) for a in arrays), sum(a.nbytes for a in arrays)
            parameters = sum(a.size for a in arrays)
            costs.append(LayerCost(path, type(layer).__name__, parameters, nonzeros, size_bytes, count, reason))
    return ModelProfile(model.name, tuple(costs))


def profiled_layers(model: keras.Model) -> list[tuple[str, keras.Layer]]:
    """The layers by path, without the wrappers that exist only while a model is being compressed.

    Such a wrapper has an attribute ``stands_for``: the layer that remains. It takes the wrapper's place and path.
    """
    found: list[tuple[str, keras.Layer]] = []
    hidden: set[int] = set()  # what is inside a wrapper
    for path, layer in [("", model), *walk(model)]:
        if id(layer) in hidden:
            continue
        remaining = getattr(layer, "stands_for", None)
        found.append((path or model.name, layer if remaining is None else remaining))
        if remaining is not None:
            hidden.update(id(sub) for _, sub in walk(layer))
            found += [(join_path(path, sub_path), sub) for sub_path, sub in walk(remaining)]
    cells = {id(cell) for _, layer in found if isinstance(layer, layers.RNN) for _, cell in walk(layer)}
    return [(path, layer) for path, layer in found if id(layer) not in cells]  # an RNN's row includes its cell


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"
