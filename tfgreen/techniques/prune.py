"""prune: zeros where weights matter least, following a schedule while the model trains.

Reference: M. Zhu and S. Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878. The mask is in
``transforms/mask.py``, which weights are kept in ``transforms/selection.py``, scores from data in
``transforms/scores.py``, the schedules in ``training/schedules.py``, the callback that moves the masks along in
``training/callbacks.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from tfgreen.errors import invalid_type, invalid_value, layer_subject
from tfgreen.model.graph import check_built_model, replaceable_layers, weights_by_path
from tfgreen.model.support import Axes
from tfgreen.techniques.patterns import (
    all_settings,
    check_patterns,
    settings_for,
    settings_for_plain,
    weights_to_compress,
)
from tfgreen.techniques.prune_settings import PruneConfig
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.layers import compress
from tfgreen.transforms.mask import FROM_DATA, Mask
from tfgreen.transforms.scores import activation_importance, taylor_importance

# Path of each layer -> "" if it may be pruned, else the reason why not.
Policy = Callable[[keras.Model], Mapping[str, str]]


def prune(model: keras.Model, config: PruneConfig) -> keras.Model:
    """Return a copy of ``model`` that becomes sparse as it trains.

    The least important weights of each kernel are held at zero; ``tfgreen/model/support.py`` lists the kernels.
    Biases, normalization and depthwise kernels stay dense unless asked for, which ``tg.report`` shows layer by layer.
    Compile the result, fit it with ``callbacks=[tg.UpdateCompression()]``, and bake it with ``tg.strip``.

    Args:
        model: Any built Keras 3 model. It is not changed.
        config: How to prune.

    Returns:
        A model of the same layers, names and shapes, not compiled.

    Raises:
        TypeError: ``model`` or ``config`` is of another type.
        ValueError: The model is not built, is pruned already, holds NaN or infinite weights, has no weight that can be
            pruned or is smaller than a block, a pattern matches nothing, the criterion lacks its data, the policy
            refuses the model, or a layer cannot be copied. The layer is named.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> pruned = tg.prune(model, tg.PruneConfig(schedule=tg.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=100)))
        >>> pruned.get_layer("out").chains[0].weight
        'kernel'
    """
    if not isinstance(config, PruneConfig):
        raise invalid_type("config", expected="a tg.PruneConfig", received=config)
    check_built_model(model)
    check_patterns(model, config)
    verdicts = _verdicts(model, config.policy)
    importance = _importance(model, config)
    settings = all_settings(config)
    pruned = 0

    def masks(path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> Mapping[str, Sequence[TensorTransform]]:
        nonlocal pruned
        chosen = settings_for_plain(path, layer, chains, config, Mask, "pruned")
        if chosen is None:
            return {}
        if verdicts.get(path):
            layer.kept_dense_because = verdicts[path]
            return {}
        weights = weights_to_compress(path, layer, chosen)
        variables = weights_by_path(layer)
        found = {}
        for weight, axes in weights.items():
            _check_weight(path, layer, weight, variables[weight], axes, chosen)
            if chosen.m_by_n is not None:
                m, n = chosen.m_by_n
                channels = variables[weight].shape[_input_axis(axes)]
                if channels <= n - m:
                    layer.kept_dense_because = f"{channels} input channels are too few for zeros with m_by_n={m, n}"
                    continue
            if chosen.criterion in FROM_DATA and f"{path}/{weight}" not in importance:
                raise invalid_value(
                    layer_subject(path, layer), expected=f"weights that criterion='{chosen.criterion}' scores",
                    received=f"'{weight}'", fix=f"Give the layer another one: layers={{'{path}': PruneConfig(...)}}.",
                )  # fmt: skip
            pruned += 1
            budget = next(index for index, some in enumerate(settings) if some is chosen)
            found[weight] = [_mask(chosen, axes, pruned, budget, importance.get(f"{path}/{weight}"))]
        return found

    result = compress(model, masks)
    if not pruned:
        raise invalid_value(
            f"model '{model.name}'", expected="at least one weight that can be pruned", received="none",
            fix="tg.report(model) says why for each layer.",
        )  # fmt: skip
    return result


def _mask(config: PruneConfig, axes: Axes, index: int, budget: int, importance: np.ndarray | None) -> Mask:
    return Mask(
        config.schedule,
        criterion=config.criterion,
        scope=config.scope,
        block_size=config.block_size,
        block_pooling=config.block_pooling,
        m_by_n=config.m_by_n,
        input_axis=_input_axis(axes),
        output_axes=axes.outputs,
        threshold=config.threshold,
        seed=config.seed + index,  # or weights of equal shape would lose the same places
        importance=importance,
        budget=budget,
    )


def _input_axis(axes: Axes) -> int:
    return axes.inputs[-1] if axes.inputs else -1


def _verdicts(model: keras.Model, policy: Policy | None) -> Mapping[str, str]:
    verdicts = policy(model) if policy is not None else {}
    if not isinstance(verdicts, Mapping) or not all(isinstance(verdict, str) for verdict in verdicts.values()):
        expected = "a callable that returns a dict of layer path -> '', or the reason why the layer stays dense"
        raise invalid_type("policy", expected=expected, received=verdicts)
    known = {path for path, _ in replaceable_layers(model)} | {layer.name for layer in model.layers}
    unknown = sorted(set(verdicts) - known)
    if unknown:
        raise invalid_value("policy", expected=f"paths of layers ({', '.join(sorted(known)[:8])})", received=unknown)
    return verdicts


def _importance(model: keras.Model, config: PruneConfig) -> dict[str, np.ndarray]:
    """Importance from data by path of the weight, for the configs that score by data."""
    found: dict[str, np.ndarray] = {}
    for chosen in all_settings(config):
        if chosen.criterion not in FROM_DATA:
            continue
        if chosen.data is None:
            form = "x" if chosen.criterion == "activation" else "(x, y)"
            raise invalid_value(
                "data", expected=f"{form} with criterion='{chosen.criterion}'", received="none",
                fix=f"Pass a few hundred training samples: PruneConfig(..., data={form}).",
            )  # fmt: skip
        if chosen.criterion == "activation":
            by_variable = activation_importance(model, chosen.data)
        else:
            if not isinstance(chosen.data, (tuple, list)) or len(chosen.data) != 2:
                raise invalid_value("data", expected="(x, y) with criterion='taylor'", received=type(chosen.data))
            x, y = chosen.data
            by_variable = taylor_importance(model, x, y, chosen.loss)
        for path, layer in replaceable_layers(model):
            if settings_for(path, config) is chosen:
                weights = weights_by_path(getattr(layer, "stands_for", layer)).items()
                found.update({f"{path}/{name}": by_variable[id(v)] for name, v in weights if id(v) in by_variable})
    return found


def _check_weight(
    path: str, layer: keras.Layer, weight: str, variable: keras.Variable, axes: Axes, config: PruneConfig
) -> None:
    subject = layer_subject(path, layer)
    bad = int(keras.ops.sum(keras.ops.cast(~keras.ops.isfinite(variable), "int32")))
    if bad:
        raise invalid_value(
            subject, expected=f"finite values in '{weight}'", received=f"{bad} NaN or infinite ones",
            fix="They cannot be ranked; load a healthy checkpoint.",
        )  # fmt: skip
    outputs = int(np.prod([variable.shape[axis] for axis in axes.outputs]))
    matrix = (int(np.prod(variable.shape)) // outputs, outputs)
    if config.block_size[0] > matrix[0] or config.block_size[1] > matrix[1]:
        raise invalid_value(
            subject, expected=f"a block no larger than '{weight}', a matrix of {matrix}", received=config.block_size,
            fix=f"Choose a smaller block_size, or leave the layer out: layers={{'{path}': None}}.",
        )  # fmt: skip
