"""Start the ranges of a quantized model from calibration data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

from tfgreen.errors import invalid_state
from tfgreen.model.call_spec import call_model, read_call_spec
from tfgreen.model.graph import layers_without_batch
from tfgreen.model.samples import sample_batches
from tfgreen.quantization.histogram import Calibration, Histogram
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.typing import Samples


def calibrate(model: keras.Model, data: Samples, calibration: Callable[[str], Calibration]) -> Mapping[str, np.ndarray]:
    """Run the data through a quantized model, its activations not rounded, and start every range from what it held;
    return the first batch, by the names of the inputs.

    Args:
        model: From ``tg.quantize``; its ranges are set.
        data: Samples of its inputs.
        calibration: Path of a layer -> how its ranges are chosen.

    Raises:
        ValueError: The data is empty, not finite or of another shape or structure than the model's inputs, or an
            activation is not finite; the layer is named.
        TypeError: It is neither arrays nor an iterable of batches, or does not hold numbers.
    """
    ranges = [
        (path, range_, Histogram())
        for path, layer in compressed_layers(model)
        if layer.activations is not None
        for range_ in layer.activations.ranges()
    ]
    try:
        for _, range_, histogram in ranges:
            range_.recorder = histogram
        spec, first = read_call_spec(model), dict[str, np.ndarray]()
        size = 1 if layers_without_batch(model) else None  # as a file runs samples: a batch has another mean than each
        for batch in sample_batches(data, spec):
            first = first or batch
            count = len(next(iter(batch.values())))
            for start in range(0, count, size or count):
                call_model(model, spec, {name: x[start : start + (size or count)] for name, x in batch.items()})
    finally:
        for _, range_, _ in ranges:
            range_.recorder = None
    for path, range_, histogram in ranges:
        if not histogram.finite:
            raise invalid_state(
                f"layer '{path}' makes NaN or infinity of the calibration data.",
                "Check the weights of the model and the scale of the data.",
            )
        if histogram.lower <= histogram.upper:  # a comparison, say, makes no numbers to round
            range_.start_from(histogram, calibration(path))
    return first
