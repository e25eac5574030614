"""Round at once: the scales of integer weights, and weights that make up for the rounding, from calibration data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import keras
import numpy as np

from tfgreen.transforms.compressed import ChainedWeight, chained_weights
from tfgreen.transforms.integer_weights import IntegerWeights
from tfgreen.transforms.mask import Mask
from tfgreen.transforms.one_shot.awq import awq_factors
from tfgreen.transforms.one_shot.gptq import gptq
from tfgreen.transforms.one_shot.input_statistics import input_grams
from tfgreen.transforms.one_shot.layer_by_layer import LayerByLayer

Method = Literal["rtn", "gptq", "awq"]


def round_at_once(
    model: keras.Model, methods: Mapping[int, Method], batches: Sequence[Mapping[str, np.ndarray]]
) -> None:
    """Set the weights of a compressed model, by the ``id`` of the variable, anew for products with calibration data.

    Layer by layer, each on what the rounded layers before it return: ``"awq"`` chooses the factors of the inputs,
    ``"gptq"`` rounds the stored weight.
    """
    weights = {id(weight.variable): weight for _, _, weight in chained_weights(model) if id(weight.variable) in methods}
    if not weights:
        return
    for variable, gram in LayerByLayer(model, batches, input_grams).statistics(weights):
        weight = weights[id(variable)]
        rounding = weight.chain.transforms[-1]
        if not isinstance(rounding, IntegerWeights):
            continue
        before = _before_rounding(weight)
        matrix = np.asarray(rounding.rows.matrix(before))
        if methods[id(variable)] == "awq":
            rounding.start_from(matrix, awq_factors(matrix, gram, rounding.bits, rounding.group_size))
            continue
        scales = rounding.along_rows()
        has_mask = any(isinstance(transform, Mask) for transform in weight.chain.transforms)
        rounded = gptq(matrix, gram, scales, rounding.largest, matrix != 0 if has_mask else None)
        change = np.asarray(rounding.rows.weight(rounded * scales)) - before
        variable.assign(np.asarray(variable) + change)


def _before_rounding(weight: ChainedWeight) -> np.ndarray:
    value = weight.value
    for transform in weight.chain.transforms[:-1]:
        value = transform.apply(value)
    return keras.ops.convert_to_numpy(value)
