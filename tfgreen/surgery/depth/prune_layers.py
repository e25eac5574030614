"""prune_layers: the repeated layers left out without which the outputs change least."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from tfgreen.errors import invalid_state
from tfgreen.model.call_spec import keeping_state, outputs_of, read_call_spec
from tfgreen.model.paths import check_built_model
from tfgreen.model.samples import sample_arrays
from tfgreen.surgery.depth.find_stacks import find_stacks
from tfgreen.surgery.depth.shallow_copy import kept_layers, without_blocks
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.typing import Samples

_BATCH = 32


def prune_layers(model: keras.Model, calibration_data: Samples, layers: int) -> keras.Model:
    """Return a copy of ``model`` with fewer of the layers that it repeats: those that its outputs depend on most.

    One layer after another is left out: of those that are left, the one without which the outputs on
    ``calibration_data`` are nearest to those of ``model``. No labels are needed, and nothing is trained: train the copy
    afterwards, best with ``tg.Distiller`` and ``model`` as the teacher. What layers are, see :func:`tg.shallow_copy`.

    Args:
        model: Any built Keras 3 model that repeats layers, not compressed. It is not changed.
        calibration_data: Samples in any form that ``tg.convert`` takes; a hundred do.
        layers: How many to keep, of each stack where there are several of a kind.

    Returns:
        A model of the same class, not compiled.

    Raises:
        TypeError: ``model`` is no ``keras.Model``, or ``layers`` no integer.
        ValueError: The model is not built or compressed, repeats no layers, or has fewer; or the samples do not fit.

    Source: X. Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", 2024,
    arXiv:2403.03853, which looks at the change within the model; Y. Zhong et al., "BlockPruner", 2024,
    arXiv:2406.10594, which looks at its outputs as here.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> blocks = [keras.layers.Dense(4, name=f"block_{i}", kernel_initializer="identity") for i in range(3)]
        >>> model = keras.Sequential([keras.Input((4,)), *blocks])
        >>> blocks[1].set_weights([5 * np.eye(4), np.zeros(4)])
        >>> [layer.name for layer in tg.prune_layers(model, np.ones((8, 4)), layers=1).layers]
        ['block_1']
    """
    check_built_model(model)
    if compressed_layers(model):
        raise invalid_state(f"model '{model.name}' is compressed.", "Call tg.strip(model) first.")
    stacks = find_stacks(model)
    for stack in stacks:
        kept_layers(layers, stack, model)
    spec = read_call_spec(model)
    samples = sample_arrays(calibration_data, spec)
    with keeping_state(model):
        expected = outputs_of(model, spec, samples, _BATCH)
    kept = [set(range(len(stack.blocks))) for stack in stacks]
    small = model
    while any(len(numbers) > layers for numbers in kept):
        tried: list[tuple[float, int, list[set[int]]]] = []
        for index, (stack, numbers) in enumerate(zip(stacks, kept)):
            for number in sorted(numbers) if len(numbers) > layers else ():
                if stack.blocks[number].picks is not None:
                    left = [mine - {number} if i == index else mine for i, mine in enumerate(kept)]
                    small = without_blocks(model, list(zip(stacks, left)))
                    tried.append((_change(expected, outputs_of(small, spec, samples, _BATCH)), len(tried), left))
        kept = min(tried)[2]
    return without_blocks(model, list(zip(stacks, kept)))


def _change(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """The mean over the outputs of the squared distance, as a share of the squares."""
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(before, after, strict=True)]
    return float(np.mean([np.square(a - b).sum() / (np.square(a).sum() or 1.0) for a, b in pairs]))
