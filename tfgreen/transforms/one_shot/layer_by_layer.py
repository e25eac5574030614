"""Layer by layer: what weights multiply on calibration data, told of a few weights at a time.

Whoever takes the statistics of a weight may change it before he asks for the next, so that later layers see what the
earlier ones have become. The model runs once more for every few weights, up to the last of their layers: of the
activations only those of one batch are in memory, of the statistics those of about a twelfth of the weights.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import keras
import numpy as np

from tfgreen.errors import invalid_state
from tfgreen.model.call_spec import call_model, keeping_state, read_call_spec
from tfgreen.model.layer_calls import Around, around_calls
from tfgreen.model.paths import own_weights, walk
from tfgreen.transforms.one_shot.input_statistics import Measure
from tfgreen.transforms.one_shot.padding import Padding
from tfgreen.typing import Tensors

_PASSES = 12  # about how often the model runs on all the data, in a model of more weights than that


class _Enough(BaseException):
    """Ends a run of the model where all has been seen: no error, so nothing on the way may take it for one."""


class LayerByLayer:
    """The statistics that ``measure`` takes of the inputs of a model's weights, on batches of samples by input, without
    padding.

    Example:
        >>> from tfgreen.transforms.one_shot.input_statistics import input_squares
        >>> model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(2), keras.layers.Dense(1)])
        >>> walked = LayerByLayer(model, [{"x": np.array([[1.0, 2.0]])}], input_squares)
        >>> for variable, squares in walked.statistics(walked.measured):
        ...     print(tuple(squares.shape), [float(s) for s in squares.ravel()])
        ...     _ = variable.assign(np.ones(variable.shape))
        (2, 1) [1.0, 4.0]
        (2, 1) [9.0, 9.0]
    """

    def __init__(self, model: keras.Model, batches: Sequence[Mapping[str, np.ndarray]], measure: Measure) -> None:
        self._model = model
        self._spec = read_call_spec(model)
        self._batches = batches
        self._measure = measure
        self._paths = {id(layer): path for path, layer in [("", model), *walk(model)]}
        self._every_layer = [model, *(layer for _, layer in walk(model))]
        self._variables = {id(v): v for layer in self._every_layer for v in own_weights(layer).values()}
        self._calls: dict[int, int] = {}  # of a layer, by its id
        self._sizes, self._readers = self._first_look()

    @property
    def measured(self) -> Collection[int]:
        """The ``id`` of the variables that there are statistics of, in the order in which the model meets them."""
        return self._sizes.keys()

    def statistics(self, wanted: Collection[int]) -> Iterator[tuple[keras.Variable, np.ndarray]]:
        """The statistics over all the data of each weight of those whose ``id`` is wanted."""
        sizes = {key: size for key, size in self._sizes.items() if key in wanted}
        most = sum(sizes.values()) / _PASSES
        while sizes:
            group = [next(iter(sizes))]
            total = sizes.pop(group[0])
            while sizes and total + next(iter(sizes.values())) <= most:
                group.append(next(iter(sizes)))
                total += sizes.pop(group[-1])
            sums = self._sums(group)
            for key in group:
                yield self._variables[key], sums.pop(key)

    def _first_look(self) -> tuple[dict[int, int], dict[int, set[int]]]:
        """The bytes of the statistics, and the layers, of each weight that one run shows."""
        shapes: dict[int, set[tuple[int, ...]]] = {}
        sizes: dict[int, int] = {}
        readers: dict[int, set[int]] = {}

        def around(layer: keras.Layer, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
            self._calls[id(layer)] = self._calls.get(id(layer), 0) + 1
            for name, value in self._measure(layer, args, kwargs).items():
                key = id(own_weights(layer)[name])
                shapes.setdefault(key, set()).add(value.shape)
                readers.setdefault(key, set()).add(id(layer))
                sizes[key] = value.nbytes
            return call(*args, **kwargs)

        first = self._batches[0]
        if self._spec.batch is None:
            first = {name: array[:1] for name, array in first.items()}
        with keeping_state(self._model), around_calls(self._every_layer, around):
            call_model(self._model, self._spec, first)
        # One that is multiplied by rows here and by columns there has no inputs that are its own.
        return {key: size for key, size in sizes.items() if len(shapes[key]) == 1}, readers

    def _sums(self, group: Collection[int]) -> dict[int, np.ndarray]:
        """The statistics of some weights."""
        ids = {reader for key in group for reader in self._readers[key]}
        readers = [layer for layer in self._every_layer if id(layer) in ids]
        once = all(self._calls[key] == 1 for key in ids)  # others may be the cells of a loop, which has to end
        sums: dict[int, np.ndarray] = {}
        left, padding = 0, Padding(self._spec, {})

        def around(layer: keras.Layer, call: Around, /, *args: Tensors, **kwargs: object) -> Tensors:
            nonlocal left
            counted = padding.removed(self._paths[id(layer)], args, kwargs)
            for name, value in self._measure(layer, *counted).items():
                key = id(own_weights(layer)[name])
                if key in group:
                    sums[key] = sums[key] + value if key in sums else value
            left -= 1
            if once and not left:
                raise _Enough
            return call(*args, **kwargs)

        with keeping_state(self._model), around_calls(readers, around):
            for batch in self._batches:
                left, padding = len(readers), Padding(self._spec, batch)
                try:
                    call_model(self._model, self._spec, batch)
                except _Enough:
                    continue
        if not all(np.isfinite(value).all() for value in sums.values()):
            raise invalid_state(
                "The model computes NaN or infinite values on calibration_data.",
                "Check its weights, and scale the samples as for training.",
            )
        return sums
