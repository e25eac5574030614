"""Where LiteRT rounds the activations of a model: the places that quantization-aware training has to round too.

LiteRT merges a BatchNormalization into the kernel before it, and a ReLU into the operation before it; it gives the
output of a pooling or a reshape the range of its input, and all inputs of a concatenation that of the output. What
remains is rounded once, on its output. What one layer becomes by itself is in :mod:`tfgreen.quantization.lowering`.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable

import keras
from keras import layers

from tfgreen.model.graph import LayerGraph, LayerNode
from tfgreen.model.weights import quantizable_weights
from tfgreen.quantization.lowering import OBSERVED, Range, Steps, merge_steps, steps_of
from tfgreen.quantization.op_classes import (
    AVERAGE_POOLING,
    averages,
    averages_whole,
    does_nothing,
    fuses,
    fuses_relu,
    has_kernel,
    is_own,
    is_separable,
    joins,
    shares_scale,
    sums,
)


@dataclasses.dataclass(frozen=True)
class Places:
    """Where one layer rounds: the arguments of :class:`tfgreen.quantization.activation_quantizer.QuantizedActivations`.

    ``folds`` says that a BatchNormalization is merged into the kernel, or is one that is.
    ``passes`` says that the output keeps the range of the input, which a layer after it needs to know.
    ``kept`` says that the settings keep the layer in float, ``apart`` that it then stands between layers that are not.
    ``reason`` says why LiteRT computes the layer in float32, else it is empty.
    """

    inputs: tuple[int, ...] = ()
    inside: tuple[Range, ...] = ()
    output: Range | None = None
    merges: int = 0
    folds: bool = False
    passes: bool = False
    kept: bool = False
    apart: bool = False
    reason: str = ""

    @property
    def any(self) -> bool:
        rounds = self.inputs or self.inside or self.output is not None
        return bool(rounds or self.folds or self.passes or self.kept or self.reason)


def places_to_round(model: keras.Model, kept: Callable[[str], bool] = lambda path: False) -> dict[str, Places]:
    """The places of every layer and raw operation of a Sequential or functional model, by path.

    Args:
        model: Built.
        kept: Whether the layer of a path is kept in float.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> x = layers.Conv2D(4, 3, name="conv")(inputs)
        >>> model = keras.Model(inputs, layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x)))
        >>> {path: (place.inputs, place.output) for path, place in places_to_round(model).items()}
        {'conv': ((0,), None), 'norm': ((), None), 'relu': ((), 'observed')}
    """
    return _Placement(LayerGraph(model), kept).places()


def averages_into_join(model: keras.Model) -> list[str]:
    """Paths of the layers that average what they take in, and whose result is joined with others by some later layer.

    TensorFlow's calibration gives the input of such a layer the range of the joined tensor, which clips what is yet to
    be averaged.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> average = layers.AveragePooling2D(3, strides=1, padding="same", name="average")(inputs)
        >>> averages_into_join(keras.Model(inputs, layers.Concatenate()([inputs, average])))
        ['average']
    """
    placement = _Placement(LayerGraph(model), lambda path: False)
    nodes = [node for nodes in placement.calls.values() for node in nodes]
    return list(dict.fromkeys(node.path for node in nodes if averages(node.layer) and node in placement.reaches_join))


class _Placement:
    """The questions that placement asks about the calls of a graph.

    A layer that is called several times is one layer: it is merged into another only where all its calls are.
    """

    def __init__(self, graph: LayerGraph, kept: Callable[[str], bool]) -> None:
        self.kept = {node for node in graph.nodes if kept(node.path)}
        self.outputs = set(graph.outputs)
        self.calls: dict[str, list[LayerNode]] = defaultdict(list)
        for node in graph.nodes:
            if not isinstance(node.layer, layers.InputLayer):
                self.calls[node.path].append(node)
        # What lies behind a node is found once, consumers first: a graph has many more paths than nodes.
        self.only_join: dict[LayerNode, LayerNode | None] = {}
        self.reaches_join: set[LayerNode] = set()
        self.comes_out: set[LayerNode] = set()
        self.passes: set[LayerNode] = set()
        for node in reversed(graph.nodes):
            self._look_behind(node)

    def _look_behind(self, node: LayerNode) -> None:
        """Answer the questions about a node that depend on the answers for its consumers.

        ``only_join``: the one join that a tensor ends in, on every way through layers that share its scale.
        ``reaches_join``: whether any such way ends in a join.
        ``comes_out``: whether what a node made, or what layers that are kept make of it, is rounded somewhere.
        ``passes``: whether a layer keeps its input's range, and one that computes with integers comes after it.
        """
        ends = {self._join_behind(then) for then in node.consumers}
        self.only_join[node] = ends.pop() if len(ends) == 1 and node not in self.outputs else None
        if any(joins(t.layer) or (shares_scale(t.layer) and t in self.reaches_join) for t in node.consumers):
            self.reaches_join.add(node)
        if any(then not in self.kept or then in self.comes_out for then in node.consumers):
            self.comes_out.add(node)
        if node in self.kept or not shares_scale(node.layer) or self._averages_whole(node):
            return
        if averages(node.layer) or any(has_kernel(then.layer) or then in self.passes for then in node.consumers):
            self.passes.add(node)

    def _join_behind(self, node: LayerNode) -> LayerNode | None:
        """The only join that a tensor ends in which a node takes in."""
        if node in self.kept:
            return None
        if joins(node.layer):
            return node
        # An average of values that the join's range clips is another average.
        return self.only_join[node] if shares_scale(node.layer) and not averages(node.layer) else None

    def places(self) -> dict[str, Places]:
        return {path: _merged([self._places(node) for node in nodes]) for path, nodes in self.calls.items()}

    def _places(self, node: LayerNode) -> Places:
        if node in self.kept:
            rounded = any(not self._is_float(producer) for producer in node.producers)
            return Places(kept=True, apart=rounded and node in self.comes_out, reason="the settings keep it in float")
        merges = len(node.producers)
        folded = self._folds(node)
        steps = Steps() if folded else merge_steps(node.layer, merges) or steps_of(node.layer)
        output = steps.output
        if self._averages_whole(node):
            output = OBSERVED
        if self._merges_into_next(node) or (output == OBSERVED and self._takes_range_of_join(node)):
            output = None
        inputs = tuple(
            index
            for index, producer in enumerate(node.producers)
            if self._is_float(producer) and not self._takes_range_of_join(producer)
        )
        folds = folded or self._is_folded_into(node)
        return Places(inputs, steps.inside, output, merges, folds, node in self.passes, reason=steps.reason)

    def _averages_whole(self, node: LayerNode) -> bool:
        """Whether a pooling layer takes the whole of a map as one window, in all its calls: a mean is then computed in
        its place, which has a range of its own. In the range of the map the small averages would lose much."""
        if not is_own(node.layer, AVERAGE_POOLING) or node.layer.data_format == "channels_first":
            return False
        return all(
            averages_whole(call.layer, call.input_shapes[0], call.output_shapes[0]) for call in self.calls[node.path]
        )

    def _folds(self, node: LayerNode) -> bool:
        """Whether a node is a BatchNormalization that is merged into the kernel before it, in all its calls."""
        return all(self._folds_in_call(call) for call in self.calls[node.path])

    def _folds_in_call(self, node: LayerNode) -> bool:
        layer = node.layer
        if node in self.kept or not is_own(layer, (layers.BatchNormalization,)) or len(node.producers) != 1:
            return False
        if layer.axis not in (-1, len(node.output_shapes[0]) - 1):
            return False
        (producer,) = node.producers
        while does_nothing(producer.layer) and producer.producers:
            producer = producer.producers[0]
        if producer in self.kept or not _is_linear_kernel(producer):
            return False
        return all(self._is_next_a_norm(call) for call in self.calls[producer.path])

    def _is_next_a_norm(self, node: LayerNode) -> bool:
        following = self._next(node)
        return following is not None and is_own(following.layer, (layers.BatchNormalization,))

    def _is_folded_into(self, node: LayerNode) -> bool:
        if not _is_linear_kernel(node):
            return False
        followings = [self._next(call) for call in self.calls[node.path]]
        return all(following is not None and self._folds(following) for following in followings)

    def _merges_into_next(self, node: LayerNode) -> bool:
        if self._is_folded_into(node):
            return True
        followings = [self._next(call) for call in self.calls[node.path]]
        return ((_is_linear_kernel(node) and fuses_relu(node.layer)) or sums(node.layer)) and all(
            following is not None and fuses(following.layer) for following in followings
        )

    def _takes_range_of_join(self, node: LayerNode) -> bool:
        """Whether all that takes in a tensor gives it the range of one output that it is joined into."""
        return self.only_join[node] is not None

    def _next(self, node: LayerNode) -> LayerNode | None:
        """The only node that takes in what a node made, past those that do nothing; None if there are several."""
        while len(node.consumers) == 1 and node not in self.outputs:
            (node,) = node.consumers
            if node in self.kept:
                return None
            if not does_nothing(node.layer):
                return node
        return None

    def _is_float(self, node: LayerNode) -> bool:
        """Whether a node makes floats that nothing has rounded: an input of the model, or a layer kept in float."""
        if isinstance(node.layer, layers.InputLayer):
            return keras.backend.is_float_dtype(node.layer.dtype)
        return node in self.kept


def _merged(places: list[Places]) -> Places:
    """One layer called several times rounds wherever one of its calls has to."""
    inputs = tuple(sorted({position for place in places for position in place.inputs}))
    output = next((place.output for place in places if place.output is not None), None)
    inside = max((place.inside for place in places), key=len)
    passes, apart = any(place.passes for place in places), any(place.apart for place in places)
    return dataclasses.replace(places[0], inputs=inputs, inside=inside, output=output, passes=passes, apart=apart)


def _is_linear_kernel(node: LayerNode) -> bool:
    layer = node.layer
    if isinstance(layer, layers.EinsumDense) and len(quantizable_weights(layer)["kernel"]) > 1:
        return False  # its output channels are several axes
    return (has_kernel(layer) or is_separable(layer)) and layer.activation in (None, keras.activations.linear)
