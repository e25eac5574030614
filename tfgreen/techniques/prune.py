"""prune: zeros where the weights are smallest, following a schedule while the model trains.

Reference: M. Zhu and S. Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878. The mask is in
``transforms/mask.py``, the schedules in ``training/schedules.py``, the callback that moves them along in
``training/callbacks.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import keras

from tfgreen.config import Config
from tfgreen.errors import invalid_type, invalid_value, layer_subject
from tfgreen.model.graph import weights_by_path
from tfgreen.model.support import compressible_weights
from tfgreen.training.schedules import SparsitySchedule
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.layers import compress
from tfgreen.transforms.mask import Mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneConfig(Config):
    """How to prune.

    Args:
        schedule: Sparsity of every prunable weight over the training steps: ``tg.PolynomialDecay`` or
            ``tg.ConstantSparsity``.

    Raises:
        TypeError: ``schedule`` is no schedule.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0))
        >>> tg.PruneConfig.from_dict(config.to_dict()) == config
        True
    """

    schedule: SparsitySchedule

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, SparsitySchedule):
            expected = "a schedule such as tg.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000)"
            raise invalid_type("schedule", expected=expected, received=self.schedule)


def prune(model: keras.Model, config: PruneConfig) -> keras.Model:
    """Return a copy of ``model`` that becomes sparse as it trains.

    The weights of smallest magnitude in each kernel are held at zero; ``tfgreen/model/support.py`` lists the kernels.
    Biases, normalization and depthwise kernels stay dense, which ``tg.report`` shows layer by layer. Compile the
    result, fit it with ``callbacks=[tg.UpdateCompression()]``, and bake it with ``tg.strip``.

    Args:
        model: Any built Keras 3 model. It is not changed.
        config: How to prune.

    Returns:
        A model of the same layers, names and shapes, not compiled.

    Raises:
        TypeError: ``model`` or ``config`` is of another type.
        ValueError: The model is not built, is pruned already, holds NaN or infinite weights, has no weight that can be
            pruned, or has a layer that cannot be copied. The layer is named.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> pruned = tg.prune(model, tg.PruneConfig(schedule=tg.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=100)))
        >>> pruned.get_layer("out").chains[0].weight
        'kernel'
    """
    if not isinstance(config, PruneConfig):
        raise invalid_type("config", expected="a tg.PruneConfig", received=config)
    pruned: list[str] = []

    def masks(
        path: str, layer: keras.Layer, chains: Mapping[str, Chain]
    ) -> Mapping[str, Sequence[TensorTransform]]:
        if any(isinstance(transform, Mask) for chain in chains.values() for transform in chain.transforms):
            raise invalid_value(
                layer_subject(path, layer), expected="a layer that is not pruned", received="a pruned one",
                fix="Bake the first pruning with tg.strip(model) to prune it again.",
            )  # fmt: skip
        weights = compressible_weights(layer)
        _check_finite(path, layer, list(weights))
        pruned.extend(weights)
        return {weight: [Mask(config.schedule)] for weight in weights}

    result = compress(model, masks)
    if not pruned:
        raise invalid_value(
            f"model '{model.name}'", expected="at least one weight that can be pruned", received="none",
            fix="tg.report(model) says why for each layer.",
        )  # fmt: skip
    return result


def _check_finite(path: str, layer: keras.Layer, weights: list[str]) -> None:
    by_path = weights_by_path(layer)
    for weight in weights:
        bad = int(keras.ops.sum(keras.ops.cast(~keras.ops.isfinite(by_path[weight]), "int32")))
        if bad:
            raise invalid_value(
                layer_subject(path, layer), expected=f"finite values in '{weight}'",
                received=f"{bad} NaN or infinite ones", fix="Magnitudes cannot be ranked; load a healthy checkpoint.",
            )  # fmt: skip
