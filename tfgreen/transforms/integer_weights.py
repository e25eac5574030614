"""IntegerWeights: a weight stored as few integers, with a scale for each output or each group of inputs, in float.

References: E. Frantar et al., "GPTQ", 2022, arXiv:2210.17323 (groups of inputs with a scale each); J. Lin et al., "AWQ:
Activation-aware Weight Quantization", 2023, arXiv:2306.00978 (inputs that matter scaled up before the rounding).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfgreen.checks import check_integer
from tfgreen.transforms.base import TensorTransform
from tfgreen.transforms.exporting import is_exporting
from tfgreen.typing import Shape, Tensor

_SMALLEST = 2e-36  # a weight below it is zero: float32 could not hold 1/127 of it
_HALF = 2.0**-14, 65504.0  # what float16 holds in full precision


@dataclasses.dataclass(frozen=True)
class Rows:
    """A weight as a matrix of (inputs, outputs), in which ``axes`` of the weight index the outputs.

    Example:
        >>> rows = Rows((3, 3, 4, 8), (-1,))
        >>> rows.shape, tuple(rows.matrix(np.zeros((3, 3, 4, 8))).shape), tuple(rows.weight(np.zeros((36, 8))).shape)
        ((36, 8), (36, 8), (3, 3, 4, 8))
    """

    weight_shape: Shape
    axes: tuple[int, ...]

    @property
    def _order(self) -> list[int]:
        outputs = [axis % len(self.weight_shape) for axis in self.axes]
        return [axis for axis in range(len(self.weight_shape)) if axis not in outputs] + outputs

    @property
    def shape(self) -> tuple[int, int]:
        outputs = math.prod(self.weight_shape[axis] or 1 for axis in self.axes)
        return math.prod(size or 1 for size in self.weight_shape) // outputs, outputs

    def matrix(self, weight: Tensor) -> Tensor:
        return ops.reshape(ops.transpose(weight, self._order), self.shape)

    def weight(self, matrix: Tensor) -> Tensor:
        order = self._order
        moved = ops.reshape(matrix, [self.weight_shape[axis] for axis in order])
        return ops.transpose(moved, [int(axis) for axis in np.argsort(order)])


def group_scales(matrix: np.ndarray, bits: int, group_size: int | None) -> np.ndarray:
    """What 1 stands for in each group of inputs of each output: float32 of shape (groups, outputs), 1 where all is 0.

    Scales of groups are numbers that float16 holds, as LiteRT stores them, where it holds such small ones.

    Example:
        >>> group_scales(np.array([[7.0], [3.5], [0.0], [-1.75]]), bits=4, group_size=2).ravel()
        array([1.  , 0.25], dtype=float32)
    """
    groups = np.asarray(matrix, np.float32).reshape(-1, group_size or len(matrix), matrix.shape[1])
    largest = np.abs(groups).max(axis=1)
    scales = np.where(largest > _SMALLEST, largest / np.float32(2 ** (bits - 1) - 1), 1).astype(np.float32)
    if group_size is None:
        return scales
    held = (scales >= _HALF[0]) & (scales <= _HALF[1])
    return np.where(held, np.clip(scales, *_HALF).astype(np.float16).astype(np.float32), scales)


@keras.saving.register_keras_serializable(package="tfgreen")
class IntegerWeights(TensorTransform):
    """Round a weight to integers of ``bits``, times a scale for each output and each group of ``group_size`` inputs.

    Scales are set once, from the weight, and stay; the gradient passes straight through the rounding. ``axes`` are the
    axes of the outputs. With ``scales_inputs`` each input has a factor too, by which its weights are multiplied before
    the rounding, and divided after it.
    """

    _settings = ("bits", "axes", "group_size", "scales_inputs", "note")

    def __init__(
        self,
        bits: int = 8,
        axes: Sequence[int] = (-1,),
        group_size: int | None = None,
        scales_inputs: bool = False,
        note: str = "",
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        check_integer("bits", bits, minimum=2, maximum=8)
        self.bits = bits
        self.axes = tuple(axes)
        self.group_size = group_size
        self.scales_inputs = scales_inputs
        self.note = note

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.rows = Rows(shape, self.axes)
        inputs, outputs = self.rows.shape
        groups = inputs // (self.group_size or inputs)
        fixed = {"initializer": "ones", "trainable": False, "autocast": False}
        self.scales = self.add_weight(shape=(groups, outputs), **fixed, name="scales")
        if self.scales_inputs:
            self.factors = self.add_weight(shape=(inputs, 1), **fixed, name="factors")

    @property
    def largest(self) -> int:
        """The largest integer; the least is its negative."""
        return int(2 ** (self.bits - 1)) - 1

    def start_from(self, matrix: np.ndarray, factors: np.ndarray | None = None) -> None:
        """Set the scales, and the factors of the inputs, for a weight as the matrix of its rows."""
        if factors is not None:
            self.factors.assign(factors.reshape(-1, 1))
            matrix = matrix * np.asarray(self.factors)
        self.scales.assign(group_scales(matrix, self.bits, self.group_size))

    def along_rows(self) -> np.ndarray:
        """The scale of each weight: float32 of the shape of the matrix."""
        scales = np.asarray(self.scales)
        return np.repeat(scales, self.rows.shape[0] // len(scales), axis=0)

    def integers(self, weight: Tensor) -> np.ndarray:
        """The integers that a weight is stored as: int8 of the shape of its matrix."""
        return np.asarray(self._rounded(self.rows.matrix(weight))).astype(np.int8).reshape(self.rows.shape)

    def _rounded(self, matrix: Tensor) -> Tensor:
        matrix = matrix * self.factors.value if self.scales_inputs else matrix
        groups = ops.reshape(matrix, (self.scales.shape[0], -1, self.rows.shape[1]))
        return ops.clip(ops.round(groups / self.scales.value[:, None]), -self.largest, self.largest)

    def apply(self, weight: Tensor) -> Tensor:
        if is_exporting():
            with tf.init_scope():  # constants of these very numbers, by which the file's are found
                return tf.constant(ops.convert_to_numpy(self._effective(weight)))
        return weight + ops.stop_gradient(self._effective(weight) - weight)

    def _effective(self, weight: Tensor) -> Tensor:
        rounded = self._rounded(self.rows.matrix(weight)) * self.scales.value[:, None]
        matrix = ops.reshape(rounded, self.rows.shape)
        return self.rows.weight(matrix / self.factors.value if self.scales_inputs else matrix)
