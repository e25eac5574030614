"""Notice that the first training batches are of another scale than the calibration data."""

from __future__ import annotations

import collections
import warnings

import keras
from keras import ops

from tfgreen.errors import layer_subject
from tfgreen.model.graph import LayerGraph
from tfgreen.model.internals import is_container
from tfgreen.quantization.ranges import MovingAverageRange
from tfgreen.transforms.compressed import compressed_layers

_FACTOR = 8.0


class InputRanges:
    """The ranges at a model's inputs before its first training batch, to compare with those after it.

    What a moving average moved by says what it has seen, so nothing is computed for this in the training step. Ranges
    that are learned or fixed do not follow the data, and are not watched.
    """

    def __init__(self, model: keras.Model) -> None:
        graph = LayerGraph(model).nodes if is_container(model) else ()  # no other model is rounded at its inputs
        calls = collections.Counter(node.path for node in graph)
        self._before = [
            (layer_subject(path, layer.layer), range_, range_.numbers(), calls[path])
            for path, layer in compressed_layers(model)
            if calls[path]
            and layer.activations is not None
            and not ops.convert_to_numpy(layer.activations.step)
            for range_ in layer.activations.input_ranges
            if isinstance(range_, MovingAverageRange) and range_.needs_data
        ]

    def compare(self, batches: int) -> None:
        """Warn, once, if the first ``batches`` were more than 8 times as wide as the calibration data, or as narrow."""
        for subject, range_, before, calls in self._before:
            seen, calibrated = range_.moved_by(before, batches * calls), range_.extremes(before)
            width = (seen[1] - seen[0]) / (calibrated[1] - calibrated[0])
            if not 1 / _FACTOR <= width <= _FACTOR:
                warnings.warn(
                    f"{subject}: the first training data it takes is between {seen[0]:.4g} and {seen[1]:.4g}, the "
                    f"calibration data was between {calibrated[0]:.4g} and {calibrated[1]:.4g}. "
                    "Prepare both alike: the ranges start from the calibration data.",
                    stacklevel=4,
                )
        self._before = []
