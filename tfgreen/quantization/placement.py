"""Where LiteRT rounds the activations of a model: the places that quantization-aware training has to round too.

Every tensor is rounded once, where LiteRT stores it: on the output of the layer that computes it, and on the input of
the first layer that takes a tensor in from outside. What LiteRT fuses has no tensor of its own, and some layers give
their output the range of their input, or their inputs the range of their output (``in0``: input 0 is rounded; ``1x``:
one range between the operators that the layer becomes; ``out``: the output is rounded, to an observed range):

    =============================  =====================================================
    conv, norm, relu               conv ``in0 fused``, norm ``fused``, relu ``out``
    conv, relu up to 4             conv ``in0``, relu ``(0, 4)``
    norm alone, relu               norm ``in0 1x``, relu ``out``
    dense with silu inside         dense ``in0 2x out``
    conv, softmax                  conv ``in0 out``, softmax ``(0, 255/256)``
    conv a + conv b, relu          a ``in0 out``, b ``in0 out``, add nothing, relu ``out``
    conv, max pooling, flatten     conv ``in0 out``, the others nothing
    concat of convs a and b        a ``in0``, b ``in0``, concat ``out``
    concat of averaged conv a      a ``in0 out``, average nothing, concat ``out``
    conv kept in float, conv       conv nothing, conv ``in0 out``
    =============================  =====================================================

What one layer becomes by itself is in :mod:`tfgreen.quantization.lowering`.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from tfgreen.model.graph import LayerGraph, LayerNode
from tfgreen.model.internals import is_container
from tfgreen.model.weights import is_own, quantizable_weights
from tfgreen.quantization.feature_scales import near_zero, needs_float_input
from tfgreen.quantization.lowering import (
    DIVIDES,
    OBSERVED,
    UNIT,
    WIDE_FEATURES,
    Lowering,
    Range,
    is_opaque,
    lowering_of,
)
from tfgreen.quantization.op_classes import (
    AVERAGE_POOLING,
    averages_whole_map,
    can_fuse_relu,
    has_kernel,
    inner_operation,
    is_averaging,
    is_concat_like,
    is_elementwise,
    is_fused_activation,
    is_identity,
    is_pass_through,
    is_separable,
)
from tfgreen.typing import PlainDict

_INFINITE = 1e4


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where one layer rounds.

    Attributes:
        inputs: Positions of the input tensors that are rounded first.
        inside: The ranges between the operators that LiteRT makes of the layer.
        output: The range of the output, or None where it is not rounded here.
        fused: Whether it is a BatchNormalization that is fused into the kernel before it, or such a kernel.
        averaging: Whether it averages in the range of its input.
        mean: Whether it is an average pooling of the whole map, which is computed as a mean.
        probabilities: Whether its output is a softmax or sigmoid at the end of the model, which is rounded in the file
            but not while training: a probability below 1/512 would have no gradient.
        keep_float: Whether the config keeps it in float.
        float_island: Whether it then takes what has been rounded, or a converter may round.
        reason: Why LiteRT computes it in float32, else "".
        input: The range of the inputs that are rounded.
    """

    inputs: tuple[int, ...] = ()
    inside: tuple[Range, ...] = ()
    output: Range | None = None
    fused: bool = False
    averaging: bool = False
    mean: bool = False
    probabilities: bool = False
    keep_float: bool = False
    float_island: bool = False
    reason: str = ""
    input: Range = OBSERVED

    def __str__(self) -> str:
        """As in the table at the top of this module."""
        words = [f"in{index}" for index in self.inputs]
        words += [f"{len(self.inside)}x"] if self.inside else []
        words += ["fused"] if self.fused else []
        words += ["mean"] if self.mean else []
        words += [] if self.output is None else ["out" if self.output == OBSERVED else str(self.output)]
        return " ".join(words)

    def to_dict(self) -> PlainDict:
        """Plain values; :meth:`from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: PlainDict) -> Placement:
        return cls(**data)


def place_activations(model: keras.Model, keep_float: Callable[[str], bool]) -> dict[str, Placement]:
    """The placement of every layer and raw operation of a model, by path; none for a subclassed model.

    Args:
        model: Built. A compressed layer counts as the one inside it.
        keep_float: Whether the layer of a path is kept in float.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> x = layers.Conv2D(4, 3, name="conv")(inputs)
        >>> model = keras.Model(inputs, layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x)))
        >>> {path: str(placement) for path, placement in place_activations(model, lambda path: False).items()}
        {'conv': 'in0 fused', 'norm': 'fused', 'relu': 'out'}
    """
    return _Placer(LayerGraph(model), keep_float).placements() if is_container(model) else {}


def averaging_before_concat(model: keras.Model) -> list[str]:
    """Paths of the averaging layers whose output, or what pass-through layers make of it, ends in a concat-like layer.

    TensorFlow's calibration gives the input of such a layer the range of the concatenated tensor, which clips what is
    yet to be averaged.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> average = layers.AveragePooling2D(3, strides=1, padding="same", name="average")(inputs)
        >>> averaging_before_concat(keras.Model(inputs, layers.Concatenate()([inputs, average])))
        ['average']
    """
    placer = _Placer(LayerGraph(model), lambda path: False)
    nodes = [node for nodes in placer.calls.values() for node in nodes]
    return list(dict.fromkeys(n.path for n in nodes if is_averaging(placer.layer[n]) and n in placer.reaches_concat))


class _Placer:
    """The questions that placement asks about the calls of a graph.

    A layer that is called several times is one layer: it is fused into another only where all its calls are.

    Attributes:
        layer: The layer or raw operation of each node, bare of wrappers.
        kept: The nodes that the config keeps in float.
        wide: Those that take in features of the model's inputs that do not fit one scale, with what leads there.
        divides: Those that divide by what may round to 0, with what leads there.
        float: All these.
        only_concat: The one concat-like node in which a tensor ends on every way through pass-through layers, or None.
        reaches_concat: The nodes of which any such way ends in a concat-like node.
        only_ends: The nodes of which every such way ends in an output of the model.
    """

    def __init__(self, graph: LayerGraph, keep_float: Callable[[str], bool]) -> None:
        self.layer = {node: inner_operation(node.layer) for node in graph.nodes}
        self.kept = {node for node in graph.nodes if keep_float(node.path)}
        self.wide = self._with_wide_features(graph)
        self.divides = near_zero(graph, self.layer)
        self.float = self.kept | self.wide | self.divides
        self.outputs = set(graph.outputs)
        self.calls: dict[str, list[LayerNode]] = defaultdict(list)
        for node in graph.nodes:
            if not isinstance(node.layer, layers.InputLayer):
                self.calls[node.path].append(node)
        self.only_concat: dict[LayerNode, LayerNode | None] = {}
        self.reaches_concat: set[LayerNode] = set()
        self.only_ends: set[LayerNode] = set()
        for node in reversed(graph.nodes):  # consumers first, once each: a graph has many more paths than nodes
            ends = {self._only_concat_from(then) for then in node.consumers}
            self.only_concat[node] = ends.pop() if len(ends) == 1 and node not in self.outputs else None
            if any(self._is_concat_from(then) for then in node.consumers):
                self.reaches_concat.add(node)
            if all(then in self.only_ends and is_pass_through(self.layer[then]) for then in node.consumers):
                self.only_ends.add(node)

    def _with_wide_features(self, graph: LayerGraph) -> set[LayerNode]:
        unrounded: set[LayerNode] = set()
        for node in graph.nodes:
            joins = is_pass_through(self.layer[node]) or self._joins(node)
            if isinstance(node.layer, layers.InputLayer) or (joins and unrounded.issuperset(node.producers)):
                unrounded.add(node)
        calls = [node for node in graph.nodes if unrounded.issuperset(node.producers) and node not in unrounded]
        found = {node for node in calls if needs_float_input(self.layer[node])}
        for node in reversed(graph.nodes):
            if node in unrounded and node.producers and not found.isdisjoint(node.consumers):
                found.add(node)
        return found

    def _joins(self, node: LayerNode) -> bool:
        """Whether what a node takes in gets the range of what it makes."""
        layer = self.layer[node]
        return is_concat_like(layer) and not (is_pass_through(layer) and _pads_within_range(node))

    def _is_concat_from(self, node: LayerNode) -> bool:
        return self._joins(node) or (is_pass_through(self.layer[node]) and node in self.reaches_concat)

    def _only_concat_from(self, node: LayerNode) -> LayerNode | None:
        layer = self.layer[node]
        if node in self.float or is_averaging(layer):  # an average of what the range clips is another average
            return None
        return node if self._joins(node) else self.only_concat[node] if is_pass_through(layer) else None

    def placements(self) -> dict[str, Placement]:
        return {path: _of_all_calls([self._place(node) for node in nodes]) for path, nodes in self.calls.items()}

    def _place(self, node: LayerNode) -> Placement:
        layer = self.layer[node]
        if node in self.float:
            # The converter knows the range of a softmax, and would give it to what else is joined with that.
            island = self._joins(node) or any(not self._is_float(producer) for producer in node.producers)
            kept = node in self.kept
            other = DIVIDES if node in self.divides else WIDE_FEATURES
            reason = "the settings keep it in float" if kept else other
            return Placement(keep_float=kept, float_island=island, reason=reason)
        fused_norm, mean = self._is_fused_norm(node), self._is_mean(node)
        lowering = Lowering() if fused_norm else lowering_of(layer, len(node.producers))
        multiplies = is_own(layer, (layers.Embedding,)) and not node.takes_indices  # by its table, instead of a lookup
        output = OBSERVED if mean or multiplies or self._joins(node) else lowering.output
        into_concat = self.only_concat[node] is not None and not self._joins(node)
        if self._is_fused_into_next(node) or (output == OBSERVED and into_concat):
            output = None
        inputs = tuple(
            index
            for index, producer in enumerate(node.producers)
            if self._is_float(producer) and self.only_concat[producer] is None and not node.takes_indices
        )
        if is_opaque(layer):
            output = None if self._returns_several(node) else output
            inputs = () if lowering.inside else inputs  # its kernels round what they take
        fused = fused_norm or self._is_fused_kernel(node)
        averaging = is_averaging(layer) and not mean
        probabilities = output == UNIT and node in self.only_ends
        return Placement(inputs, lowering.inside, output, fused, averaging, mean, probabilities, reason=lowering.reason)

    def _is_mean(self, node: LayerNode) -> bool:
        """Whether one window of an average pooling holds the whole map, in all its calls: a mean is then computed in
        its place, which has a range of its own. In the range of the map the small averages would lose much."""
        layer = self.layer[node]
        if not is_own(layer, AVERAGE_POOLING) or layer.data_format == "channels_first":
            return False
        shapes = ((call.input_shapes[0], call.output_shapes[0]) for call in self.calls[node.path])
        return all(averages_whole_map(layer, *each) for each in shapes)

    def _is_fused_norm(self, node: LayerNode | None) -> bool:
        """Whether a node is a BatchNormalization that is fused into the kernel before it, in all its calls."""
        return node is not None and all(self._is_fused_norm_call(call) for call in self.calls[node.path])

    def _is_fused_norm_call(self, node: LayerNode) -> bool:
        layer = self.layer[node]
        if node in self.float or not is_own(layer, (layers.BatchNormalization,)) or len(node.producers) != 1:
            return False
        if layer.axis not in (-1, len(node.output_shapes[0]) - 1):
            return False
        (producer,) = node.producers
        while is_identity(self.layer[producer]) and producer.producers:
            producer = producer.producers[0]
        if producer in self.float or not is_linear_kernel(self.layer[producer]):
            return False
        return all(self._is_norm(self._next(call)) for call in self.calls[producer.path])

    def _is_norm(self, node: LayerNode | None) -> bool:
        return node is not None and is_own(self.layer[node], (layers.BatchNormalization,))

    def _is_fused_kernel(self, node: LayerNode) -> bool:
        nexts = (self._next(call) for call in self.calls[node.path])
        return is_linear_kernel(self.layer[node]) and all(self._is_fused_norm(then) for then in nexts)

    def _is_fused_into_next(self, node: LayerNode) -> bool:
        if self._is_fused_kernel(node):
            return True
        layer, nexts = self.layer[node], [self._next(call) for call in self.calls[node.path]]
        return ((is_linear_kernel(layer) and can_fuse_relu(layer)) or is_elementwise(layer)) and all(
            then is not None and is_fused_activation(self.layer[then]) for then in nexts
        )

    def _next(self, node: LayerNode) -> LayerNode | None:
        """The only consumer of a node, past identities; None if there are several."""
        while len(node.consumers) == 1 and node not in self.outputs:
            (node,) = node.consumers
            if node in self.float:
                return None
            if not is_identity(self.layer[node]):
                return node
        return None

    def _is_float(self, node: LayerNode) -> bool:
        """Whether a node makes floats that nothing has rounded: an input of the model, or a layer kept in float."""
        if isinstance(node.layer, layers.InputLayer):
            return keras.backend.is_float_dtype(node.layer.dtype)
        return node in self.float or self._returns_several(node)

    def _returns_several(self, node: LayerNode) -> bool:
        """Whether a node returns several tensors of floats from code that is not known: one of them may be a mask of
        very large numbers, so that no range fits all."""
        return sum(map(keras.backend.is_float_dtype, node.output_dtypes)) > 1 and is_opaque(self.layer[node])


def _pads_within_range(node: LayerNode) -> bool:
    """Whether a node pads by no other numbers than zeros, or than those that stand for minus infinity."""
    value = np.abs(keras.ops.convert_to_numpy(node.named.get("constant_values") or 0))
    return bool(np.all((value == 0) | (value >= _INFINITE)))


def _of_all_calls(found: list[Placement]) -> Placement:
    """A layer that is called several times rounds wherever one of its calls has to."""
    return dataclasses.replace(
        found[0],
        inputs=tuple(sorted({position for placement in found for position in placement.inputs})),
        inside=max((placement.inside for placement in found), key=len),
        output=next((placement.output for placement in found if placement.output is not None), None),
        float_island=any(placement.float_island for placement in found),
    )


def is_linear_kernel(layer: keras.Operation) -> bool:
    """Whether a layer ends in the sums of one kernel, into which what follows can be fused."""
    if isinstance(layer, layers.EinsumDense) and len(quantizable_weights(layer)["kernel"]) > 1:
        return False  # its output channels are several axes
    return (has_kernel(layer) or is_separable(layer)) and layer.activation in (None, keras.activations.linear)
