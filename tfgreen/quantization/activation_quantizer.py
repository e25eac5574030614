"""QuantizedActivations: the ranges at which the activations of one layer are rounded, and how to run it with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from tfgreen.model.operation_layer import OperationLayer
from tfgreen.quantization.accumulator import Accumulator, SharedKernel, accumulate, shared_kernel
from tfgreen.quantization.lowering import OBSERVED, SIGNED_UNIT, UNIT, Range, merge_steps, steps_of
from tfgreen.quantization.op_classes import ATTENTION, AVERAGE_POOLING, averages, shares_scale
from tfgreen.quantization.ranges import ActivationRange, FixedRange, as_range, round_average
from tfgreen.transforms.base import ActivationHook
from tfgreen.transforms.exporting import is_exporting


@keras.saving.register_keras_serializable(package="tfgreen")
class QuantizedActivations(ActivationHook):
    """What :class:`tfgreen.transforms.compressed.Compressed` rounds besides weights.

    Args:
        kind: The range that observed places get a copy of.
        inputs: Positions of the tensors coming in that are rounded first: those that are inputs of the model.
        inside: The ranges of what LiteRT makes of the layer on the way, see :mod:`tfgreen.quantization.lowering`.
        output: The range of the output, or None where it is not rounded here.
        merges: How many tensors a merging layer takes.
        folds: Whether the BatchNormalization after it is merged into it.
        kept: Whether the layer is kept in float.
        apart: Whether it then stands between layers that are not.
        freeze_after: Number of training batches after which ranges, and the statistics of a BatchNormalization, stay as
            they are; None for never. ``tg.UpdateCompression`` counts them.
        weight_bits: Width of the integers of the layer's kernel.
        one_scale: Whether all channels of that kernel have the same scale.
        reason: Why LiteRT computes the layer in float32, for ``tg.summary``; "" where it does not.

    Attributes:
        step: Variable, int64: the batches counted.
    """

    def __init__(
        self,
        kind: ActivationRange,
        inputs: Sequence[int] = (),
        inside: Sequence[Range] = (),
        output: Range | None = None,
        merges: int = 0,
        folds: bool = False,
        kept: bool = False,
        apart: bool = False,
        freeze_after: int | None = None,
        weight_bits: int = 8,
        one_scale: bool = False,
        reason: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs}, autocast=False)
        self.kind = kind
        self.places: dict[str, Any] = {"inputs": tuple(inputs), "inside": tuple(inside), "output": output}
        self.places |= {"merges": merges, "folds": folds, "kept": kept, "apart": apart}
        self.freeze_after = freeze_after
        self.weight_bits = weight_bits
        self.one_scale = one_scale
        self.reason = reason
        self.input_ranges = [self._range(OBSERVED, f"input_{index}") for index in inputs]
        self.inside_ranges = [self._range(range_, f"inside_{index}") for index, range_ in enumerate(inside)]
        self.output_range = None if output is None else self._range(output, "output")

    def _range(self, range_: Range, name: str) -> ActivationRange:
        if range_ == OBSERVED:
            return as_range(self.kind, name)
        symmetric = self.kind.bits > 8 and range_ in (UNIT, SIGNED_UNIT)
        lower, upper = map(float, (-1.0, 1.0) if symmetric else range_)
        return FixedRange(lower, upper, bits=self.kind.bits, name=name)

    def build(self, input_shape: Any = None) -> None:
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
    def freezes(self) -> bool:
        return self.freeze_after is not None

    def frozen(self) -> Any:
        """A bool tensor: whether ranges stay as they are by now."""
        return self.step >= self.freeze_after

    def run(self, layer: Any, args: tuple, kwargs: dict[str, Any], training: bool) -> Any:
        """Call a layer on tensors, rounding what comes in, what it makes on the way and what comes out."""

        def rounded(range_: ActivationRange, x: Any) -> Any:
            if training:
                self._follow(range_, ops.stop_gradient(ops.cast(x, "float32")))
            x = range_(x)
            _leave(x, range_)
            return x

        if self.places["kept"]:
            if self.places["apart"] and is_exporting():
                # The converter rounds a layer that stands between ranges, unless there is a cast.
                args, kwargs = keras.tree.map_structure(_by_way_of_float64, (args, kwargs))
            return layer(*args, **kwargs)
        if self.input_ranges:
            args, kwargs = self._round_inputs(rounded, args, kwargs)
        if is_exporting() and isinstance(layer, ATTENTION) and _several((args, kwargs)):
            # The converter leaves the kernels in float32 and one of the tensors they take in integers.
            args, kwargs = keras.tree.map_structure(_by_way_of_float64, (args, kwargs))
        source = _left(args, ActivationRange)
        # LiteRT's kernels round some things by themselves, too finely to matter for training.
        as_litert = not training and not is_exporting() and (source is None or source.recorder is None)
        kind = layer.operation if isinstance(layer, OperationLayer) else layer
        steps = merge_steps(kind, self.places["merges"]) or steps_of(kind)
        sums = accumulate(layer, args, source, self.weight_bits, self.one_scale) if as_litert else None
        merged = _left(args, (Accumulator, SharedKernel)) if not training and self.places["folds"] else None

        def quantize(index: int, x: Any) -> Any:
            return rounded(self.inside_ranges[index], x)

        if sums is not None:
            outputs = steps.finish(layer, quantize, sums.values()) if steps.finish else layer.activation(sums.values())
        elif merged is not None:
            outputs = merged.normalized(layer)
        elif self.output_range is not None and isinstance(kind, AVERAGE_POOLING):
            # The window is the whole map. LiteRT's pooling keeps the scale of its input, its mean has one of its own.
            outputs = ops.mean(args[0], axis=tuple(range(1, len(args[0].shape) - 1)), keepdims=True)
        elif steps.run is not None and len(steps.inside) == len(self.inside_ranges):
            outputs = steps.run(layer, quantize, args, kwargs)
        else:
            outputs = layer(*args, **kwargs)
        if self.output_range is not None:
            final = self.output_range
            return keras.tree.map_structure(lambda x: rounded(final, x) if _is_float(x) else x, outputs)
        if shares_scale(kind) and source is not None:
            if averages(kind) and as_litert and source.bits == 8:
                lower, upper = source.ends()
                outputs = round_average(outputs, lower, upper, source.bits)
            _leave(outputs, source)
        elif self.places["folds"]:
            told = self.one_scale and is_exporting()
            _leave(outputs, shared_kernel(layer, args[0], self.weight_bits) if told else sums)
        return outputs

    def _follow(self, range_: ActivationRange, x: Any) -> None:
        if not self.freezes:
            range_.follow(x)
            return
        before = [variable.value for variable in range_.non_trainable_variables]
        range_.follow(x)
        for variable, value in zip(range_.non_trainable_variables, before):
            variable.assign(ops.where(self.frozen(), value, variable.value))

    def _round_inputs(self, rounded: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        ranges = dict(zip(self.places["inputs"], self.input_ranges))
        position = -1

        def visit(x: Any) -> Any:
            nonlocal position
            if not ops.is_tensor(x) and not isinstance(x, keras.KerasTensor):
                return x
            position += 1
            rounded_already = isinstance(getattr(x, _NOTE, None), ActivationRange)
            if position not in ranges or rounded_already or not _is_float(x):
                return x
            return rounded(ranges[position], x)

        return keras.tree.map_structure(visit, (args, kwargs))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **self.places,
            "kind": keras.saving.serialize_keras_object(self.kind),
            "freeze_after": self.freeze_after,
            "weight_bits": self.weight_bits,
            "one_scale": self.one_scale,
            "reason": self.reason,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizedActivations:
        return cls(**{**config, "kind": keras.saving.deserialize_keras_object(config["kind"])})


_NOTE = "_tfgreen_note"


def _leave(x: Any, note: Any) -> None:
    """Leave a note about a tensor for the layer that takes it in: the range it was rounded to, or its accumulator.

    It goes along with the tensor, as Keras's masks do, because the two layers are wrapped apart.
    """
    for tensor in keras.tree.flatten(x):
        if note is not None and not isinstance(tensor, keras.KerasTensor):
            setattr(tensor, _NOTE, note)


def _left(args: tuple, kind: type | tuple[type, ...]) -> Any:
    """The note about the first tensor, if it is of a kind."""
    note = getattr(next(iter(keras.tree.flatten(args)), None), _NOTE, None)
    return note if isinstance(note, kind) else None


def _several(x: Any) -> bool:
    return len({id(tensor) for tensor in keras.tree.flatten(x) if ops.is_tensor(tensor)}) > 1


def _by_way_of_float64(x: Any) -> Any:
    return ops.cast(ops.cast(x, "float64"), x.dtype) if ops.is_tensor(x) and _is_float(x) else x


def _is_float(x: Any) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype))
