"""Store the scales of weights in 8 significant bits: those of float32 are noise that gzip cannot compress."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.schema_py_generated import ModelT

from tfgreen.deploy.tflite.contents import scales_of
from tfgreen.deploy.tflite.flatbuffer import constant


def store_bfloat16_scales(model: ModelT) -> int:
    """Round the scales of constants that have one for each channel, biases too, to bfloat16; return how many.

    Their integers stay, so that what a channel returns changes by one factor, between 1 - 2**-8 and 1 + 2**-8.
    """
    rounded = 0
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            scales, _, _ = scales_of(tensor)
            if scales.size > 1 and constant(model, tensor) is not None:
                mantissas, exponents = np.frexp(scales)
                tensor.quantization.scale = np.ldexp(np.round(mantissas * 256) / 256, exponents).astype(np.float32)
                rounded += scales.size
    return rounded
