"""Kernels as matrices: the rows of inputs that a dense layer, convolution or EinsumDense multiplies by its kernel."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers

from tfgreen.model.weights import einsum_letters, has_plain_weights, is_own
from tfgreen.typing import Shape

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)


class KernelRows:
    """A layer as a product of rows of its inputs and a matrix.

    Example:
        >>> dense = layers.Dense(2)
        >>> dense.build((None, 3, 4))
        >>> rows = KernelRows(dense)
        >>> rows.count((5, 3, 4)), rows.take(np.ones((5, 3, 4)), np.array([0, 14])).shape, rows.matrix().shape
        (15, (2, 4), (4, 2))
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.is_conv = isinstance(layer, _CONVOLUTIONS)
        if isinstance(layer, layers.EinsumDense):
            self._inputs, self._kernel, self._outputs = einsum_letters(layer)
        outputs = math.prod(layer.kernel.shape[axis] for axis in self.output_axes())
        self.has_intercept = layer.bias is not None and math.prod(layer.bias.shape) == outputs

    @staticmethod
    def fits(layer: keras.Layer) -> bool:
        """Whether a layer is such a product, and of its kernel as that is stored."""
        return has_plain_weights(layer) and KernelRows.is_product(layer)

    @staticmethod
    def is_product(layer: keras.Layer) -> bool:
        """Whether a layer is such a product, of whatever it computes with in the place of its kernel."""
        if is_own(layer, (layers.EinsumDense,)):
            inputs, kernel, outputs = einsum_letters(layer)
            summed = set(inputs) & set(kernel)
            # A letter in all three is a product for each of its values; inputs of open rank have no letters.
            return bool(summed) and not summed & set(outputs) and "." not in inputs
        return is_own(layer, (layers.Dense,)) or (is_own(layer, _CONVOLUTIONS) and layer.groups == 1)

    def matrix(self, kernel: np.ndarray | None = None) -> np.ndarray:
        """The kernel, or an array of its shape, as one of shape (values in a row, outputs)."""
        kernel = np.asarray(self.layer.kernel if kernel is None else kernel)
        if isinstance(self.layer, layers.EinsumDense):
            summed, kept = self._axes()
            kernel = kernel.transpose([*summed, *kept])
            return kernel.reshape(math.prod(kernel.shape[: len(summed)]), -1)
        return kernel.reshape(-1, kernel.shape[-1])

    def as_kernel(self, matrix: np.ndarray) -> np.ndarray:
        """What :meth:`matrix` gives, in the shape of the kernel again."""
        shape = self.layer.kernel.shape
        if not isinstance(self.layer, layers.EinsumDense):
            return matrix.reshape(shape)
        summed, kept = self._axes()
        order = [*summed, *kept]
        return matrix.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))

    def assign(self, matrix: np.ndarray, intercept: np.ndarray | None) -> None:
        """Let the layer multiply by another matrix, and add other numbers if it adds any for each output."""
        self.layer.kernel.assign(self.as_kernel(matrix))
        if intercept is not None:
            self.layer.bias.assign(intercept.reshape(self.layer.bias.shape))

    def intercept(self) -> np.ndarray | None:
        """What is added to each output, or None."""
        return np.asarray(self.layer.bias).ravel() if self.has_intercept else None

    def count(self, shape: Shape) -> int:
        """How many rows inputs of a shape have."""
        if self.is_conv:
            return int(shape[0] or 0) * math.prod(self._output_sizes(self._channels_last(shape)))
        if isinstance(self.layer, layers.EinsumDense):
            return math.prod(size or 0 for letter, size in zip(self._inputs, shape) if letter not in self._kernel)
        return math.prod(size or 0 for size in shape[:-1])

    def take(self, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The rows of inputs at some places, of shape (places, values in a row)."""
        if self.is_conv:
            return self._patches(x, places)
        if isinstance(self.layer, layers.EinsumDense):
            order = [i for i, letter in enumerate(self._inputs) if letter not in self._kernel]
            summed = [self._inputs.index(letter) for letter in self._kernel if letter in self._inputs]
            x = x.transpose([*order, *summed])
            return x.reshape(math.prod(x.shape[: len(order)]), -1)[places]
        return x.reshape(-1, x.shape[-1])[places]

    def input_axes(self) -> list[int]:
        """The axes of the kernel that are summed over and are no windows."""
        return self._axes()[0] if isinstance(self.layer, layers.EinsumDense) else [len(self.layer.kernel.shape) - 2]

    def output_axes(self) -> list[int]:
        """The axes of the kernel that index the outputs."""
        return self._axes()[1] if isinstance(self.layer, layers.EinsumDense) else [len(self.layer.kernel.shape) - 1]

    def _axes(self) -> tuple[list[int], list[int]]:
        """The axes of the kernel that are summed over, and the others."""
        summed = [i for i, letter in enumerate(self._kernel) if letter in self._inputs]
        return summed, [i for i in range(len(self._kernel)) if i not in summed]

    def _channels_last(self, shape: Shape) -> Shape:
        return shape if self.layer.data_format == "channels_last" else (shape[0], *shape[2:], shape[1])

    def _windows(self) -> list[int]:
        """How far a window reaches along each axis."""
        return [(size - 1) * rate + 1 for size, rate in zip(self.layer.kernel_size, self.layer.dilation_rate)]

    def _output_sizes(self, shape: Shape) -> list[int]:
        sizes = []
        for size, stride, window in zip(shape[1:-1], self.layer.strides, self._windows()):
            length = (size or 0) if self.layer.padding != "valid" else (size or 0) - window + 1
            sizes.append(-(-length // stride))
        return sizes

    def _patches(self, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        layer = self.layer
        if layer.data_format == "channels_first":
            x = np.moveaxis(x, 1, -1)
        out = self._output_sizes(x.shape)
        if layer.padding != "valid":
            pads = [(0, 0)]
            for size, outs, stride, window in zip(x.shape[1:-1], out, layer.strides, self._windows()):
                total = window - 1 if layer.padding == "causal" else max((outs - 1) * stride + window - size, 0)
                before = total if layer.padding == "causal" else total // 2
                pads.append((before, total - before))
            x = np.pad(x, [*pads, (0, 0)])
        sample, *corners = np.unravel_index(places, (len(x), *out))
        index: list[np.ndarray] = [sample.reshape(-1, *[1] * layer.rank)]
        for axis, corner in enumerate(corners):
            steps = np.arange(layer.kernel_size[axis]) * layer.dilation_rate[axis]
            shape = [1] * (layer.rank + 1)
            shape[axis + 1] = -1
            index.append((corner * layer.strides[axis]).reshape(-1, *[1] * layer.rank) + steps.reshape(shape))
        return x[tuple(index)].reshape(len(places), -1)
