"""Biases whose numbers are all equal, which TensorFlow's converter gets wrong in a model with trained ranges.

It rounds such a bias to the scale of the first channel and stores that integer for every channel, although each has a
scale of its own (seen in TensorFlow 2.21; ``bias_initializer="ones"`` is enough).
"""

from __future__ import annotations

import numpy as np

from tfgreen.deploy.tflite.flatbuffer import constant, parse, set_constant, write


def mend_equal_biases(content: bytes) -> bytes:
    """Return the file with each such bias rounded channel by channel; the same bytes where it has none."""
    model = parse(content, "converted model")
    mended = False
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            scales = None if tensor.quantization is None else tensor.quantization.scale
            if scales is None or len(np.unique(scales)) < 2:
                continue
            values = constant(model, tensor)
            if values is None or values.dtype != np.int32 or values.ndim != 1:
                continue
            # One integer for scales that differ would be the bias of numbers that differ as they do, to the last digit.
            if values[0] != 0 and (values == values[0]).all():
                scales = np.asarray(scales, np.float64)
                set_constant(model, graph, tensor, np.round(values[0] * scales[0] / scales).astype(np.int32))
                mended = True
    return write(model) if mended else content
