"""The term of FedProx: what clients learn may stray from the shared weights, but not far.

Reference: T. Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, arXiv:1812.06127.
"""

from __future__ import annotations

from collections.abc import Callable

import keras

from tfgreen.typing import Tensor


class ProximalTerm:
    """Adds ``weight / 2 * sum((w - w at the start) ** 2)`` over the trainable weights to the loss of a model.

    Nothing is added before the first weight that is not 0. A model whose ``train_step`` leaves its ``losses`` out is
    trained without the term.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._starts: list[tuple[keras.Variable, keras.Variable]] = []
        self._weight: keras.Variable | None = None

    def start(self, weight: float) -> None:
        """Hold the weights to what they are now."""
        if weight and self._weight is None:
            self._weight = keras.Variable(0.0, trainable=False, dtype="float32", name="proximal_weight")
            for variable in self._model.trainable_variables:
                origin = keras.Variable(variable, trainable=False, dtype=variable.dtype, name="proximal_origin")
                variable.regularizer = _Distance(origin, self._weight, variable.regularizer)
                self._starts.append((variable, origin))
            self._model.train_function = self._model.test_function = None  # they were traced without the term
        if self._weight is not None:
            self._weight.assign(weight)
            for variable, origin in self._starts:
                origin.assign(variable)

    def end(self) -> None:
        """Leave the loss of an evaluation as it is without the term."""
        if self._weight is not None:
            self._weight.assign(0.0)

    def remove(self) -> None:
        """Take the term out of the model."""
        for variable, _ in self._starts:
            variable.regularizer = variable.regularizer.other
        if self._starts:
            self._model.train_function = self._model.test_function = None
        self._starts, self._weight = [], None


class _Distance:
    """The regularizer that a variable has, and half its weighted squared distance from where it started."""

    def __init__(
        self, origin: keras.Variable, weight: keras.Variable, other: Callable[[Tensor], Tensor] | None
    ) -> None:
        self._origin, self._weight, self.other = origin, weight, other

    def __call__(self, value: Tensor) -> Tensor:
        apart = keras.ops.cast(keras.ops.subtract(value, self._origin), "float32")
        term = self._weight / 2 * keras.ops.sum(keras.ops.square(apart))
        return term if self.other is None else term + keras.ops.cast(self.other(value), "float32")
