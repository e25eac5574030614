"""Prune at once: masks that are set, and weights that make up for them, from calibration data before any training.

References: M. Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2023, arXiv:2306.11695
(Wanda: ``|w| * ||x||``, compared within each output); SparseGPT is in ``sparsegpt.py``, the
last change of the weights that it leaves in ``weight_update.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfgreen.model.paths import own_weights, walk
from tfgreen.transforms.compressed import ChainedWeight, chained_weights
from tfgreen.transforms.mask import Mask
from tfgreen.transforms.one_shot.input_statistics import Measure, input_grams, input_squares
from tfgreen.transforms.one_shot.kernel_rows import KernelRows
from tfgreen.transforms.one_shot.layer_by_layer import LayerByLayer
from tfgreen.transforms.one_shot.sparsegpt import sparsegpt
from tfgreen.transforms.one_shot.weight_update import update_kept
from tfgreen.transforms.selection import keep_largest_of_each, keep_m_by_n

# Criterion -> what it measures of the inputs of a weight.
MEASURES: Mapping[str, Measure] = {"wanda": input_squares, "sparsegpt": input_grams}


def prune_at_once(
    model: keras.Model, budget: int, sparsity: float, batches: Sequence[Mapping[str, np.ndarray]]
) -> None:
    """Set the masks of a budget in a compressed model, layer by layer, each on what the pruned layers before it return.

    With SparseGPT the weights that stay are changed too. Masks and weights are those of ``model`` itself.

    Args:
        sparsity: The share of zeros, in [0, 1), where a mask has no pattern of m:n.
        batches: Samples by input.
    """
    weights = {
        id(weight.variable): (weight, mask)
        for _, _, weight in chained_weights(model)
        for mask in weight.chain.transforms
        if isinstance(mask, Mask) and mask.criterion in MEASURES and mask.budget == budget
    }
    if not weights:
        return
    readers = {id(v): layer for layer in (sub for _, sub in walk(model)) for v in own_weights(layer).values()}
    criterion = next(iter(weights.values()))[1].criterion
    for variable, statistic in LayerByLayer(model, batches, MEASURES[criterion]).statistics(weights):
        weight, mask = weights[id(variable)]
        if criterion == "wanda":
            kept = _wanda(np.asarray(weight.value), np.sqrt(statistic), mask, sparsity)
        else:
            kept = _sparsegpt(weight, statistic, mask, sparsity, KernelRows(readers[id(variable)]))
        mask.mask.assign(kept)
        if weight.adapter is None:
            variable.assign(np.where(kept, np.asarray(variable), 0))


def _wanda(value: np.ndarray, norms: np.ndarray, mask: Mask, sparsity: float) -> np.ndarray:
    scores = np.abs(value.astype(np.float64)) * norms
    if mask.m_by_n is not None:
        return keep_m_by_n(scores, *mask.m_by_n, axis=mask.input_axis)
    return keep_largest_of_each(scores, sparsity, mask.output_axes)


def _sparsegpt(
    weight: ChainedWeight, gram: np.ndarray, mask: Mask, sparsity: float, rows: KernelRows
) -> np.ndarray:
    """What is kept; the weight is changed, under an adapter so that with its product it is as found."""
    value = np.asarray(weight.value)
    run = value.shape[mask.input_axis]
    dense = rows.matrix(value)
    pruned, kept = sparsegpt(dense, gram, sparsity, mask.m_by_n, run)
    matrix = update_kept(dense, pruned, kept, gram)
    weight.variable.assign(np.asarray(weight.variable) + (rows.as_kernel(matrix) - value))
    return rows.as_kernel(kept)
