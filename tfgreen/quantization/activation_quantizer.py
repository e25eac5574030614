"""ActivationQuantizer: the ranges to which the activations of one layer are rounded, and how to run it with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from tfgreen.model.graph import LayerNode
from tfgreen.model.internals import calls_of, producing_call
from tfgreen.quantization.kernels import (
    fused_kernel,
    fused_norm,
    round_in_accumulator,
    run_fused,
    weight_rounding,
)
from tfgreen.quantization.lowering import (
    DIVIDES,
    OBSERVED,
    SIGNED_UNIT,
    UNIT,
    WIDE_FEATURES,
    Range,
    lowering_of,
    without_activation,
)
from tfgreen.quantization.op_classes import (
    gives_back_range,
    has_kernel,
    inner_operation,
    is_concat_like,
    is_pass_through,
    normalized_axis,
)
from tfgreen.quantization.placement import Placement
from tfgreen.quantization.ranges import ActivationRange, FixedRange
from tfgreen.quantization.rounding import round_average, round_leaky_relu, without_gradient_of_zeros
from tfgreen.transforms.base import ActivationHook
from tfgreen.transforms.compressed import Compressed
from tfgreen.transforms.exporting import is_exporting, isolated, with_ranges_of_averages
from tfgreen.transforms.whole_batch import given_batch
from tfgreen.typing import PlainDict, Shape, Tensor, Tensors

# TensorFlow's operations that must not get the range of what comes before: they compute other values.
_TAKE_NO_RANGE = frozenset("Mean Sum Cumsum AvgPool AvgPool3D ResizeBilinear Einsum".split())


@keras.saving.register_keras_serializable(package="tfgreen")
class ActivationQuantizer(ActivationHook):
    """What :class:`tfgreen.transforms.compressed.Compressed` rounds besides weights.

    Args:
        placement: Where the layer rounds.
        kind: The range that observed places get a copy of.
        freeze_after: Number of training batches after which ranges, and the statistics of a BatchNormalization, stay as
            they are; None for never. ``tg.UpdateCompression`` counts them.

    Attributes:
        step: Variable, int64: the batches counted.
        input_ranges, inside_ranges, output_range: The ranges at the places of the placement.
    """

    def __init__(
        self, placement: Placement, kind: ActivationRange, freeze_after: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs}, autocast=False)
        self.placement = placement
        self.kind = kind
        self.freeze_after = freeze_after
        self.input_ranges = [self._range(placement.input, f"input_{index}") for index in placement.inputs]
        self.inside_ranges = [self._range(range_, f"inside_{index}") for index, range_ in enumerate(placement.inside)]
        self.output_range = None if placement.output is None else self._range(placement.output, "output")
        for range_ in (*self.inside_ranges, *([] if self.output_range is None else [self.output_range])):
            range_.catches_up = True

    def _range(self, range_: Range, name: str) -> ActivationRange:
        if range_ == OBSERVED:
            return type(self.kind).from_config({**self.kind.get_config(), "name": name})
        symmetric = self.kind.bits > 8 and range_ in (UNIT, SIGNED_UNIT)
        lower, upper = map(float, (-1.0, 1.0) if symmetric else range_)
        return FixedRange(lower, upper, bits=self.kind.bits, name=name)

    def build(self, input_shape: Shape | None = None) -> None:
        self.step = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="step")
        for range_ in self.ranges():
            range_.build()
        self.built = True

    def ranges(self) -> Iterator[ActivationRange]:
        """All ranges, in the order in which the layer uses them."""
        yield from self.input_ranges
        yield from self.inside_ranges
        if self.output_range is not None:
            yield self.output_range

    @property
    def reason(self) -> str:
        """Why LiteRT computes the layer in float32, else ""."""
        return self.placement.reason

    @property
    def freezes(self) -> bool:
        return self.freeze_after is not None

    @property
    def _rounds_to(self) -> ActivationRange | None:
        """The range of the output, unless only the file rounds to it."""
        return None if self.output_range is None or self.output_range.only_in_file else self.output_range

    def frozen(self) -> Tensor:
        """A bool tensor: whether ranges stay as they are by now."""
        return self.step >= self.freeze_after

    def run(self, compressed: Compressed, args: tuple, kwargs: Mapping[str, Any], training: bool) -> Tensors:
        """Call the layer inside, rounding what comes in, what it makes on the way and what comes out."""
        layer, place = compressed.layer, self.placement
        args, kwargs = self._round_inputs(args, kwargs, training)
        if is_exporting() and not place.keep_float and gives_back_range(inner_operation(layer)):
            args, kwargs = with_ranges_of_averages((args, kwargs))
        if is_exporting() and (place.float_island or (place.reason and _takes_no_range(layer, args, kwargs))):
            args, kwargs = isolated((args, kwargs))
        axis = normalized_axis(inner_operation(layer)) if training else None
        if axis is not None:
            args = (without_gradient_of_zeros(args[0], axis), *args[1:])
        if place.keep_float or place.reason in (WIDE_FEATURES, DIVIDES):
            return layer(*args, **kwargs)
        if self.output_range is not None and is_concat_like(inner_operation(layer)):
            return self._run_concat_like(layer, self.output_range, args, kwargs, training)
        outputs = self._run_inside(compressed, args, kwargs, training)
        if self.output_range is None or _looks_up(layer, args, outputs):
            return outputs
        if training and place.probabilities:  # called all the same, because who reads logits listens to it
            return self.output_range(outputs, rounds=False)
        return keras.tree.map_structure(lambda x: self._round(self.output_range, x, training), outputs)

    def _run_inside(self, compressed: Compressed, args: tuple, kwargs: Mapping[str, Any], training: bool) -> Tensors:
        layer, place = compressed.layer, self.placement
        operation = inner_operation(layer)

        def quantize(index: int, x: Tensor) -> Tensor:
            return self._round(self.inside_ranges[index], x, training)

        if place.mean:  # LiteRT's pooling keeps the scale of its input, its mean has one of its own
            return ops.mean(args[0], axis=tuple(range(1, len(args[0].shape) - 1)), keepdims=True)
        if place.fused and is_exporting():
            outputs = self._export_fused(compressed, args)
            if outputs is not None:
                return outputs
        lowering = lowering_of(operation, len(keras.tree.flatten(args)))
        run = lowering.run if len(lowering.inside) == len(self.inside_ranges) else None
        if training or is_exporting():
            return run(layer, quantize, args, kwargs) if run is not None else layer(*args, **kwargs)
        # LiteRT's kernels round some things by themselves, too finely to matter for training.
        if lowering.activate is not None and not place.fused and has_kernel(layer):
            x = without_activation(layer, lambda: layer(*args, **kwargs))
            target = self.inside_ranges[0] if self.inside_ranges else self._rounds_to
            x = round_in_accumulator(x, compressed, range_before(compressed), target)
            return lowering.activate(layer, quantize, x)
        outputs = run(layer, quantize, args, kwargs) if run is not None else layer(*args, **kwargs)
        if place.averaging:
            source = range_before(compressed)
            return outputs if source is None or source.bits != 8 else round_average(outputs, *source.ends())
        if isinstance(operation, keras.layers.LeakyReLU) and self._rounds_to is not None:
            source = range_before(compressed)
            if source is not None and source.bits == 8:
                return round_leaky_relu(args[0], operation.negative_slope, source.ends(), self._rounds_to.ends())
        kernel = fused_kernel(compressed) if place.fused else None
        if kernel is not None and isinstance(layer, keras.layers.BatchNormalization):
            return round_in_accumulator(outputs, kernel, range_before(kernel), self._rounds_to, layer)
        return outputs

    def _run_concat_like(
        self, layer: keras.Layer, range_: ActivationRange, args: tuple, kwargs: Mapping[str, Any], training: bool
    ) -> Tensors:
        """Round the inputs to the range of the output, as LiteRT does. The converter has to see it: it would hand on
        the range of a sigmoid, or of another use of an input, and clip the output to it."""
        if training or range_.recorder is not None:
            outputs = layer(*args, **kwargs)
            if training and _is_float(outputs):
                self._follow(range_, ops.stop_gradient(ops.cast(outputs, "float32")))

        def rounded(x: Any) -> Any:
            return range_(x) if ops.is_tensor(x) and _is_float(x) else x

        if range_.recorder is None:
            args, kwargs = keras.tree.map_structure(rounded, (args, kwargs))
            outputs = layer(*args, **kwargs)
        return range_(outputs) if _is_float(outputs) else outputs

    def _export_fused(self, compressed: Compressed, args: tuple) -> Tensor | None:
        """A kernel of one scale with the BatchNormalization after it; that one then passes on what comes in."""
        is_norm = isinstance(compressed.layer, keras.layers.BatchNormalization)
        kernel = fused_kernel(compressed) if is_norm else compressed
        norm = None if kernel is None else fused_norm(kernel)
        rounding = None if kernel is None else weight_rounding(kernel)
        if norm is None or rounding is None or rounding.axes or (is_norm and norm is not compressed):
            return None
        return args[0] if is_norm else run_fused(compressed, norm.layer, args[0])

    def _round(self, range_: ActivationRange, x: Tensor, training: bool) -> Tensor:
        if not _is_float(x):
            return x
        if training:
            self._follow(range_, ops.stop_gradient(ops.cast(x, "float32")))
        return range_(x)

    def _follow(self, range_: ActivationRange, x: Tensor) -> None:
        if given_batch() is not None:  # which has moved it
            return
        if not self.freezes:
            range_.follow(x)
            return
        before = [variable.value for variable in range_.non_trainable_variables]
        range_.follow(x)
        for variable, value in zip(range_.non_trainable_variables, before):
            variable.assign(ops.where(self.frozen(), value, variable.value))

    def _round_inputs(
        self, args: tuple, kwargs: Mapping[str, Any], training: bool
    ) -> tuple[tuple, Mapping[str, Any]]:
        ranges = dict(zip(self.placement.inputs, self.input_ranges))
        position = -1

        def visit(x: Any) -> Any:
            nonlocal position
            if not ops.is_tensor(x) and not isinstance(x, keras.KerasTensor):
                return x
            position += 1
            return self._round(ranges[position], x, training) if position in ranges else x

        return keras.tree.map_structure(visit, (args, kwargs)) if ranges else (args, kwargs)

    def get_config(self) -> PlainDict:
        own = {"placement": self.placement.to_dict(), "kind": keras.saving.serialize_keras_object(self.kind)}
        return {**super().get_config(), **own, "freeze_after": self.freeze_after}

    @classmethod
    def from_config(cls, config: PlainDict) -> ActivationQuantizer:
        kind, placement = keras.saving.deserialize_keras_object(config["kind"]), config["placement"]
        return cls(**{**config, "kind": kind, "placement": Placement.from_dict(placement)})


def range_before(compressed: Compressed) -> ActivationRange | None:
    """The range to which the input of a layer is rounded; None if nothing rounds it (yet), or not all calls alike.

    It is read off the graph of the model, up to the edge of a nested one.
    """
    hook = compressed.activations
    found = {_range_of(call.input_tensors[0]) for call in calls_of(compressed)}
    if isinstance(hook, ActivationQuantizer) and hook.input_ranges:
        found = {*hook.input_ranges[:1]}
    source = found.pop() if len(found) == 1 else None
    return source if source is not None and source.recorder is None and not source.only_in_file else None


def ranges_of_consumer(node: LayerNode, consumer: LayerNode) -> list[ActivationRange]:
    """The ranges to which a layer of a quantized model rounds what it takes in of a node; empty where it does not.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> from tfgreen.model.graph import LayerGraph
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> quantized = tg.quantize(model, calibration_data=np.linspace(-2, 8, 512).reshape(256, 2))
        >>> (source,) = LayerGraph(quantized).inputs
        >>> [range_.numbers().round().tolist() for range_ in ranges_of_consumer(source, source.consumers[0])]
        [[-2.0, 8.0]]
    """
    hook = getattr(consumer.layer, "activations", None)
    if not isinstance(hook, ActivationQuantizer):
        return []
    inputs = zip(hook.placement.inputs, hook.input_ranges)
    found = [range_ for index, range_ in inputs if consumer.producers[index] is node]
    if is_concat_like(inner_operation(consumer.layer)) and hook.output_range is not None:
        found.append(hook.output_range)
    return found


def ranges_of_input(node: LayerNode) -> Iterator[ActivationRange]:
    """Each range to which the values of a node are rounded first, by what takes them in or layers that pass them on."""
    for consumer in node.consumers:
        found = ranges_of_consumer(node, consumer)
        yield from found
        if not found and is_pass_through(inner_operation(consumer.layer)):
            yield from ranges_of_input(consumer)


def _range_of(tensor: keras.KerasTensor) -> ActivationRange | None:
    """The range to which the layer that makes a tensor has rounded it, or the input of pass-through layers."""
    call = producing_call(tensor)
    hook, passes = getattr(call.operation, "activations", None), is_pass_through(inner_operation(call.operation))
    if _looks_up(inner_operation(call.operation), call.input_tensors, tensor):
        return None
    if isinstance(hook, ActivationQuantizer):
        if hook.placement.keep_float or hook.output_range is not None:
            return hook.output_range
        if hook.input_ranges:
            return hook.input_ranges[0] if passes else None
    return _range_of(call.input_tensors[0]) if passes and call.input_tensors else None


def _looks_up(layer: keras.Operation, inputs: Sequence[Any], output: Any) -> bool:
    """Whether a call of an Embedding looks rows up, which were rounded as weights. A reversible one also multiplies."""
    return isinstance(layer, keras.layers.Embedding) and len(output.shape) > len(keras.tree.flatten(inputs)[0].shape)


def _takes_no_range(layer: keras.Layer, args: tuple, kwargs: Mapping[str, Any]) -> bool:
    """Whether a layer that computes in float32 may begin with an operation that must not get the range of its input."""
    graph = next(x for x in keras.tree.flatten((args, kwargs)) if ops.is_tensor(x)).graph
    known = len(graph.get_operations())
    layer(*args, **kwargs)  # what nothing reads is not in the file
    return any(
        # A kernel that is reshaped stays a float, while its input would be integers, which no runtime computes.
        one.type in _TAKE_NO_RANGE
        or (one.type in ("MatMul", "BatchMatMulV2") and one.inputs[1].op.type == "Reshape")
        for one in graph.get_operations()[known:]
    )


def _is_float(x: Tensor) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
