"""report: what was done to each layer of a model, and why nothing was done to the others."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras

from tfgreen.model.graph import check_built_model, replaceable_layers, weights_by_path
from tfgreen.model.support import compressible_weights, reason_kept
from tfgreen.transforms.base import Chain
from tfgreen.transforms.layers import Compressed, CompressedModel


@dataclasses.dataclass(frozen=True)
class WeightStatus:
    """One weight of one layer, or a layer that has none to compress.

    Attributes:
        layer: Path of the layer.
        class_name: Its class.
        weight: Path of the weight within the layer; "" if the layer has none to compress.
        done: The transforms the weight passes through, in order (``("Mask",)``); empty if none.
        size: Number of weights.
        nonzeros: How many of them are not zero as the layer computes with them.
        reason: Why nothing was done, else "".
    """

    layer: str
    class_name: str
    weight: str
    done: tuple[str, ...]
    size: int
    nonzeros: int
    reason: str

    @property
    def sparsity(self) -> float:
        """Share of zeros, in [0, 1]."""
        return 1.0 - self.nonzeros / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True)
class ModelReport:
    """The status of every layer that has weights; prints as a table."""

    name: str
    weights: tuple[WeightStatus, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {
            "name": self.name,
            "weights": [{**dataclasses.asdict(w), "done": list(w.done), "sparsity": w.sparsity} for w in self.weights],
        }

    def __str__(self) -> str:
        rows = [("layer", "class", "weight", "what was done", "weights", "non-zero", "sparsity")]
        for w in self.weights:
            done = " -> ".join(w.done) if w.done else f"kept: {w.reason}"
            sparsity = f"{w.sparsity:.1%}" if w.weight else ""
            rows.append((w.layer, w.class_name, w.weight, done, f"{w.size:,}", f"{w.nonzeros:,}", sparsity))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(c.ljust(n) if i < 4 else c.rjust(n) for i, (c, n) in enumerate(zip(row, widths))) for row in rows
        ]
        return "\n".join([f"model '{self.name}'", lines[0], "-" * len(lines[0]), *lines[1:]])


def report(model: keras.Model) -> ModelReport:
    """Say for each layer of a model what was done to its weights, or why they were kept as they are.

    Args:
        model: A built Keras model, from a verb of tfgreen or not.

    Returns:
        A :class:`ModelReport`; ``print`` shows it as a table. Layers without weights are left out.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: It is not built.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(4, name="out"), keras.layers.BatchNormalization(name="norm")])
        >>> pruned = tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0)))
        >>> [(w.layer, w.done, w.reason) for w in tg.report(pruned).weights]
        [('out', ('Mask',), ''), ('norm', (), 'it normalizes and has no kernel')]
    """
    check_built_model(model)
    statuses: list[WeightStatus] = []
    for path, layer in replaceable_layers(model):
        compressed = layer.compressed if isinstance(layer, CompressedModel) else layer
        inner, chains = (compressed.layer, compressed.chains) if isinstance(compressed, Compressed) else (layer, [])
        if inner.weights:
            statuses += _statuses(path or model.name, inner, {chain.weight: chain for chain in chains})
    return ModelReport(model.name, tuple(statuses))


def _statuses(path: str, layer: keras.Layer, chains: dict[str, Chain]) -> list[WeightStatus]:
    weights = weights_by_path(layer)
    candidates = list(dict.fromkeys([*chains, *compressible_weights(layer)]))
    class_name = type(layer).__name__
    if not candidates:
        size = sum(math.prod(variable.shape) for variable in weights.values())
        nonzeros = sum(_nonzeros(variable.value) for variable in weights.values())
        return [WeightStatus(path, class_name, "", (), size, nonzeros, reason_kept(layer))]
    statuses = []
    for name in candidates:
        chain, variable = chains.get(name), weights[name]
        done = tuple(type(transform).__name__ for transform in chain.transforms) if chain else ()
        nonzeros = _nonzeros(chain.apply(variable.value) if chain else variable.value)
        reason = "" if chain else getattr(layer, "kept_dense_because", "it was not compressed")
        statuses.append(WeightStatus(path, class_name, name, done, math.prod(variable.shape), nonzeros, reason))
    return statuses


def _nonzeros(value: Any) -> int:
    return int(keras.ops.count_nonzero(value))
