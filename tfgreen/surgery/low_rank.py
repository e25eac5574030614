"""Low rank: a kernel as the product of two smaller ones, and the layers that hold them.

Source: E. Denton et al., "Exploiting Linear Structure Within Convolutional Networks", NeurIPS 2014, arXiv:1404.0736
(truncated singular value decomposition); weighted by the inputs as in X. Zhang et al., arXiv:1411.4229.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tfgreen.model.weights import einsum_letters
from tfgreen.transforms.one_shot.kernel_rows import KernelRows
from tfgreen.typing import Shape


class LowRank:
    """The products of two matrices that are nearest to one of shape (inputs, outputs), in what it returns.

    Args:
        gram: The mean of the products of inputs, of shape (inputs, inputs); None weighs all inputs alike.

    Example:
        >>> found = LowRank(np.outer([1.0, 2.0], [3.0, 4.0, 5.0]))
        >>> one, other = found.factors(found.rank_of(0.99))
        >>> (one @ other).round(6).tolist(), one.shape
        ([[3.0, 4.0, 5.0], [6.0, 8.0, 10.0]], (2, 1))
    """

    def __init__(self, matrix: np.ndarray, gram: np.ndarray | None = None) -> None:
        self._matrix = matrix.astype(np.float64)
        product = self._matrix if gram is None else gram @ self._matrix
        powers, directions = np.linalg.eigh(self._matrix.T @ product)
        # The mean squares of the outputs along their principal directions, largest first, and these as columns.
        self._powers, self._directions = np.maximum(powers[::-1], 0), directions[:, ::-1]

    def factors(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """The two matrices, with an inner size of ``rank``."""
        kept = self._directions[:, :rank]
        return self._matrix @ kept, kept.T

    def rank_of(self, energy: float) -> int:
        """The least rank that keeps a share of the mean square of what the matrix returns."""
        shares = np.cumsum(self._powers) / (self._powers.sum() or 1.0)
        return min(int(np.searchsorted(shares, energy * (1 - 1e-12))) + 1, *self._matrix.shape)


def can_be_factorized(layer: keras.Layer) -> bool:
    """Whether a layer is a dense layer, a convolution of single pixels or an EinsumDense."""
    return KernelRows.fits(layer) and all(size == 1 for size in getattr(layer, "kernel_size", ()))


def factorized(layer: Any, one: np.ndarray, other: np.ndarray, input_shape: Shape) -> keras.Sequential:
    """Two layers of the same class that multiply by one matrix after the other, as a model of the layer's name."""
    rank = one.shape[1]
    last = {name: getattr(layer, name) for name in ("activation", "bias_regularizer", "activity_regularizer")}
    shared: dict[str, Any] = {"dtype": layer.dtype_policy}
    if isinstance(layer, layers.EinsumDense):
        inputs, kernel, outputs = einsum_letters(layer)
        kept = "".join(letter for letter in inputs if letter not in kernel)
        new = next(letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in inputs + kernel + outputs)
        summed = "".join(letter for letter in kernel if letter in inputs)
        free = "".join(letter for letter in kernel if letter not in inputs)
        sizes = [size for letter, size in zip(inputs, input_shape) if letter in kept][1:]
        first: Any = layers.EinsumDense(f"{inputs},{summed}{new}->{kept}{new}", (*sizes, rank), name="down", **shared)
        second: Any = layers.EinsumDense(
            f"{kept}{new},{new}{free}->{outputs}", layer.partial_output_shape, bias_axes=layer.bias_axes, name="up",
            **last, **shared,
        )  # fmt: skip
        shapes = [
            [layer.kernel.shape[kernel.index(letter)] for letter in summed] + [rank],
            [rank] + [layer.kernel.shape[kernel.index(letter)] for letter in free],
        ]
    elif isinstance(layer, layers.Dense):
        first = layers.Dense(rank, use_bias=False, name="down", **shared)
        second = layers.Dense(layer.units, use_bias=layer.use_bias, name="up", **last, **shared)
        shapes = [[*one.shape], [*other.shape]]
    else:
        cls, ones = type(layer), (1,) * layer.rank
        shared["data_format"] = layer.data_format
        first = cls(rank, 1, layer.strides, layer.padding, use_bias=False, name="down", **shared)
        second = cls(layer.filters, 1, use_bias=layer.use_bias, name="up", **last, **shared)
        shapes = [[*ones, *one.shape], [*ones, *other.shape]]
    result = keras.Sequential([keras.Input(batch_shape=input_shape), first, second], name=layer.name)
    first.kernel.assign(one.reshape(shapes[0]))
    second.kernel.assign(other.reshape(shapes[1]))
    if layer.bias is not None:
        second.bias.assign(layer.bias)
    result.trainable = layer.trainable
    return result
