"""summary: what was done to each layer of a model, and why nothing was done to the others."""

from __future__ import annotations

import dataclasses
import math

import keras

from tfgreen.model.operation_layer import OperationLayer
from tfgreen.model.paths import check_built_model, join_path, own_parameters, replaceable_layers, walk, weights_by_path
from tfgreen.model.weights import Reasons, compressible_weights, own_compressible, reason_unchanged
from tfgreen.tables import RowResult, TableResult
from tfgreen.training.shortfall import shortfall
from tfgreen.transforms.compressed import ChainedWeight, compressed_in, compressed_layers
from tfgreen.transforms.lora import is_of_adapter, merged_value
from tfgreen.typing import PlainDict, Tensor


@dataclasses.dataclass(frozen=True)
class WeightStatus(RowResult):
    """One weight of one layer, or a layer that has none to compress.

    Attributes:
        layer: Path of the layer.
        class_name: Its class.
        weight: Path of the weight within the layer; "" if the layer has none to compress.
        done: The transforms the weight passes through, in order (``("Mask",)``); empty if none.
        size: Number of weights.
        nonzeros: How many of them are not zero as the layer computes with them.
        reason: Why nothing was done, or less than was asked for, or why the layer computes in float32; else "".
        counted_with: The layer that is listed with this weight, where several read it; the size is 0 then. Else "".
    """

    layer: str
    class_name: str
    weight: str
    done: tuple[str, ...]
    size: int
    nonzeros: int
    reason: str
    counted_with: str = ""

    @property
    def sparsity(self) -> float:
        """Share of zeros, in [0, 1]."""
        return 1.0 - self.nonzeros / self.size if self.size else 0.0

    @property
    def text(self) -> str:
        """What was done, or why nothing was, in words."""
        if self.counted_with:
            return f"the weight of '{self.counted_with}'"
        if not self.done:
            return f"unchanged: {self.reason}"
        return " -> ".join(self.done) + (f" ({self.reason})" if self.reason else "")


@dataclasses.dataclass(frozen=True, repr=False)
class ModelSummary(TableResult):
    """The status of every layer that has weights: a table in ``print`` and in notebooks.

    Attributes:
        name: Name of the model.
        weights: The statuses, in the order of the layers.
        remark: How far masks are from the end of their schedules; "" if they have come to it.

    Example:
        >>> import keras, tfgreen as tg
        >>> tg.summary(keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)], name="net"))
        <ModelSummary: 'net': 0 of 1 weights compressed>
    """

    name: str
    weights: tuple[WeightStatus, ...]
    remark: str = ""

    _headings = ("layer", "class", "weight", "what was done", "weights", "non-zero", "sparsity")
    _left = 4

    def to_dict(self) -> PlainDict:
        """Plain values, fit for JSON."""
        return {
            "name": self.name,
            "remark": self.remark,
            "weights": [{**dataclasses.asdict(w), "done": list(w.done), "sparsity": w.sparsity} for w in self.weights],
        }

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (w.layer, w.class_name, w.weight, w.text, f"{w.size:,}", f"{w.nonzeros:,}",
             f"{w.sparsity:.1%}" if w.weight else "")
            for w in self.weights
        ]

    def _headline(self) -> str:
        counted = [w for w in self.weights if not w.counted_with]
        return f"'{self.name}': {sum(bool(w.done) for w in counted)} of {len(counted)} weights compressed"

    def _remarks(self) -> tuple[str, ...]:
        return (f"model {self._headline()}", *([self.remark] if self.remark else []))


def summary(model: keras.Model) -> ModelSummary:
    """Say for each layer of a model what was done to its weights, or why they were left as they are.

    Args:
        model: A built Keras model, from a verb of tfgreen or not.

    Returns:
        A :class:`ModelSummary`; ``print`` shows it as a table. Layers without weights are left out, unless a quantized
        model computes them in float32, and so are the biases and other vectors of layers that are listed by their
        matrices: no verb touches them unless asked to.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: It is not built.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential(
        ...     [keras.Input((8,)), keras.layers.Dense(4, name="out"), keras.layers.BatchNormalization(name="norm")])
        >>> pruned = tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0)))
        >>> [(w.layer, w.done, w.reason) for w in tg.summary(pruned).weights]
        [('out', ('Mask',), ''), ('norm', (), 'it normalizes and has no kernel')]
    """
    check_built_model(model)
    reasons = {path: reason for _, layer in compressed_layers(model) for path, reason in layer.reasons.items()}
    listed: dict[int, str] = {}  # weights, by the layer that they are listed with
    statuses: list[WeightStatus] = []
    for path, layer in replaceable_layers(model):
        inner, chained, float_because = layer, {}, ""
        if (compressed := compressed_in(layer)) is not None:
            inner, chained = compressed.layer, {weight.chain.weight: weight for weight in compressed.chained}
            float_because = getattr(compressed.activations, "reason", "")
        if inner.weights:
            general = reasons.get(path, float_because or Reasons.NOT_COMPRESSED)
            unchanged = {name: reasons.get(join_path(path, name), general) for name in weights_by_path(inner)}
            statuses += _statuses(path or model.name, inner, chained, unchanged, float_because, listed)
        elif float_because:
            name = type(inner.operation if isinstance(inner, OperationLayer) else inner).__name__
            statuses.append(WeightStatus(path, name, "", (), 0, 0, float_because))
    return ModelSummary(model.name, tuple(statuses), shortfall(model))


def _statuses(
    path: str, layer: keras.Layer, chained: dict[str, ChainedWeight], unchanged_because: dict[str, str],
    float_because: str, listed: dict[int, str],
) -> list[WeightStatus]:
    weights, left_out = weights_by_path(layer), _left_out(layer)
    candidates, class_name = list(dict.fromkeys([*chained, *compressible_weights(layer)])), type(layer).__name__
    if not candidates:
        size = sum(math.prod(variable.shape) for variable in weights.values())
        nonzeros = sum(_nonzeros(variable.value) for variable in weights.values())
        reason = float_because or next(iter(left_out.values()), reason_unchanged(layer))
        return [WeightStatus(path, class_name, "", (), size, nonzeros, reason)]
    statuses = []
    for name in [name for name in dict.fromkeys([*candidates, *left_out]) if name in weights]:
        weight, variable = chained.get(name), weights[name]
        transforms = weight.chain.transforms if weight is not None else []
        done = tuple(type(transform).__name__ for transform in transforms)
        if listed.setdefault(id(variable), path) != path:
            statuses.append(WeightStatus(path, class_name, name, done, 0, 0, "", listed[id(variable)]))
            continue
        nonzeros = _nonzeros(weight.effective() if weight is not None else merged_value(layer, variable))
        dead = Reasons.DEAD if done and not nonzeros else ""
        notes = [note for note in (*(t.note for t in transforms), dead, float_because) if note]
        reason = "; ".join(notes) if weight is not None else left_out.get(name, unchanged_because[name])
        statuses.append(WeightStatus(path, class_name, name, done, math.prod(variable.shape), nonzeros, reason))
    return statuses


def _left_out(layer: keras.Layer) -> dict[str, str]:
    """The matrices of a layer that no verb touches unless asked to, by path within the layer, and why."""
    found: dict[str, str] = {}
    for path, sub in [("", layer), *walk(layer)]:
        chosen = own_compressible(sub)
        if hasattr(sub, "get_prunable_weights"):
            reason = Reasons.NOT_PRUNABLE
        elif chosen:
            reason = Reasons.OTHER_WEIGHTS.format(weights=" and ".join(chosen))
        else:
            reason = reason_unchanged(sub)
        for name, variable in own_parameters(sub).items():
            if len(variable.shape) >= 2 and name not in chosen:
                found[join_path(path, name)] = Reasons.ADAPTER if is_of_adapter(sub, variable) else reason
    return found


def _nonzeros(value: Tensor) -> int:
    return int(keras.ops.count_nonzero(value))
