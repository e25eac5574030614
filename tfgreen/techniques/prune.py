"""prune: zeros where weights matter least, following a schedule while the model trains.

Reference: M. Zhu and S. Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878. The mask is in
``transforms/mask.py``, which weights are kept in ``transforms/selection.py``, scores from data in
``transforms/scores.py``, the schedules in ``training/schedules.py``, the callback that moves the masks along in
``training/callbacks.py``.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfgreen.config import Config, data_field
from tfgreen.errors import invalid_type, invalid_value, layer_subject
from tfgreen.model.graph import check_built_model, replaceable_layers, weights_by_path
from tfgreen.model.support import Axes, compressible_weights
from tfgreen.training.schedules import ConstantSparsity, PolynomialDecay, SparsitySchedule, as_schedule
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.layers import compress
from tfgreen.transforms.mask import CRITERIA, SCOPES, Mask
from tfgreen.transforms.scores import activation_importance, taylor_importance

# Path of each layer -> "" if it may be pruned, else the reason why not.
Policy = Callable[[keras.Model], Mapping[str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneConfig(Config):
    """How to prune.

    Attributes:
        schedule: Sparsity over the training steps: ``tg.PolynomialDecay``, ``tg.ConstantSparsity``, any TFMOT
            ``PruningSchedule``, or a function of the step that returns the sparsity.
        criterion: How weights are scored: ``"magnitude"``; ``"threshold"`` (magnitude, and all up to ``threshold`` go,
            whatever the sparsity); ``"activation"`` (magnitude times the norm of what the weight multiplies, from
            ``data``); ``"taylor"`` (first-order change of the ``loss``, from ``data``); ``"random"``.
        scope: What competes: ``"layer"`` by layer, ``"global"`` over the model, or by layer with sparsities shared out
            by Erdos-Renyi-Kernel (``"erk"``), which keeps more of small layers.
        block_size: ``(rows, columns)`` of blocks that are zero as a whole. A kernel is seen as a matrix of
            (inputs, outputs), a convolution's as (height * width * channels in, channels out).
        block_pooling: ``"AVG"`` or ``"MAX"``, the score of a block.
        m_by_n: ``(m, n)``: m zeros in every n weights along the input channels. On the way ``n * sparsity`` of them.
        threshold: For the criterion of that name: a magnitude >= 0.
        data: For ``"activation"``: inputs; for ``"taylor"``: ``(inputs, targets)``; arrays of shape (samples, ...).
        loss: For ``"taylor"``: a Keras loss or its name.
        seed: For ``"random"``.
        layers: Name pattern (``"block*/conv"``) -> another ``PruneConfig`` for the layers it matches, or None to keep
            them dense. The first pattern that matches counts. Overrides do not nest.
        extra_weights: Patterns of weights (``"depthwise*/kernel"``, ``"*/bias"``) to prune besides those of
            ``tfgreen/model/support.py``.
        policy: A callable that says for each layer of the model whether it may be pruned, such as
            ``tg.PruneForLatencyOnXNNPack()``.

    Raises:
        ValueError, TypeError: A setting is out of range, of another type, or does not go with another.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0), layers={"head": None})
        >>> tg.PruneConfig.from_dict(config.to_dict()) == config
        True
    """

    schedule: Any
    criterion: str = "magnitude"
    scope: str = "layer"
    block_size: tuple[int, int] = (1, 1)
    block_pooling: str = "AVG"
    m_by_n: tuple[int, int] | None = None
    threshold: float | None = None
    data: Any = data_field()
    loss: Any = None
    seed: int = 0
    layers: Mapping[str, PruneConfig | None] = dataclasses.field(default_factory=dict)
    extra_weights: tuple[str, ...] = ()
    policy: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        object.__setattr__(self, "block_size", _pair("block_size", self.block_size))
        if self.m_by_n is not None:
            object.__setattr__(self, "m_by_n", _pair("m_by_n", self.m_by_n))
        object.__setattr__(self, "layers", dict(self.layers))
        object.__setattr__(self, "extra_weights", tuple(self.extra_weights))
        for name, allowed in (("criterion", CRITERIA), ("scope", SCOPES), ("block_pooling", ("AVG", "MAX"))):
            if getattr(self, name) not in allowed:
                raise invalid_value(name, expected=f"one of {allowed}", received=repr(getattr(self, name)))
        self._check_shape_of_zeros()
        self._check_criterion()
        for pattern, override in self.layers.items():
            if override is not None and not isinstance(override, PruneConfig):
                raise invalid_type(f"layers['{pattern}']", expected="a tg.PruneConfig or None", received=override)
            if override is not None and override.layers:
                raise invalid_value(f"layers['{pattern}']", expected="no layers of its own", received=override.layers)
        if self.policy is not None and not callable(self.policy):
            raise invalid_type("policy", expected="a callable of the model", received=self.policy)

    def _check_shape_of_zeros(self) -> None:
        if self.m_by_n is not None:
            m, n = self.m_by_n
            if m >= n:
                raise invalid_value("m_by_n", expected="fewer zeros (m) than weights (n)", received=self.m_by_n)
            last = _last_sparsity(self.schedule)
            if last is not None and round(n * last, 6) < m:
                raise invalid_value(
                    "schedule", expected=f"a final sparsity >= {m / n:g}, which m_by_n={self.m_by_n} needs",
                    received=last, fix=f"Set it to {m / n:g}.",
                )  # fmt: skip
            if self.block_size != (1, 1):
                raise invalid_value("block_size", expected="(1, 1) with m_by_n", received=self.block_size)
        if self.scope != "layer":
            clash = {"m_by_n": self.m_by_n, "criterion": "threshold" if self.criterion == "threshold" else None}
            clash["block_size"] = self.block_size if self.block_size != (1, 1) and self.scope == "global" else None
            for name, value in clash.items():
                if value is not None:
                    raise invalid_value("scope", expected=f"'layer' with {name}={value!r}", received=repr(self.scope))

    def _check_criterion(self) -> None:
        if (self.criterion == "threshold") != (self.threshold is not None):
            needed = "a magnitude >= 0" if self.criterion == "threshold" else "none"
            raise invalid_value(
                "threshold", expected=f"{needed} with criterion='{self.criterion}'", received=self.threshold
            )
        if self.threshold is not None and (not isinstance(self.threshold, numbers.Real) or not self.threshold >= 0):
            raise invalid_value("threshold", expected="a magnitude >= 0", received=self.threshold)
        if self.criterion == "taylor" and self.loss is None:
            raise invalid_value(
                "loss", expected="a Keras loss with criterion='taylor'", received="none",
                fix="Pass the loss the model is trained with: loss='sparse_categorical_crossentropy'.",
            )  # fmt: skip


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
    _check_patterns(model, config)
    verdicts = dict(config.policy(model)) if config.policy is not None else {}
    importance = _importance(model, config)
    pruned = 0

    def masks(path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> Mapping[str, Sequence[TensorTransform]]:
        nonlocal pruned
        if any(isinstance(transform, Mask) for chain in chains.values() for transform in chain.transforms):
            raise invalid_value(
                layer_subject(path, layer), expected="a layer that is not pruned", received="a pruned one",
                fix="Bake the first pruning with tg.strip(model) to prune it again.",
            )  # fmt: skip
        chosen = _config_for(path, config)
        if chosen is None or verdicts.get(path):
            layer.kept_dense_because = verdicts.get(path) or "the settings leave it out"  # for tg.report
            return {}
        weights = _weights_to_prune(path, layer, chosen)
        variables = weights_by_path(layer)
        found = {}
        for weight, axes in weights.items():
            _check_weight(path, layer, weight, variables[weight], axes, chosen)
            pruned += 1
            found[weight] = [_mask(chosen, axes, pruned, importance.get(f"{path}/{weight}"))]
        return found

    result = compress(model, masks)
    if not pruned:
        raise invalid_value(
            f"model '{model.name}'", expected="at least one weight that can be pruned", received="none",
            fix="tg.report(model) says why for each layer.",
        )  # fmt: skip
    return result


def _mask(config: PruneConfig, axes: Axes, index: int, importance: np.ndarray | None) -> Mask:
    return Mask(
        config.schedule,
        criterion=config.criterion,
        scope=config.scope,
        block_size=config.block_size,
        block_pooling=config.block_pooling,
        m_by_n=config.m_by_n,
        input_axis=axes.inputs[-1] if axes.inputs else -1,
        output_axes=axes.outputs,
        threshold=config.threshold,
        seed=config.seed + index,  # or weights of equal shape would lose the same places
        importance=importance,
    )


def _config_for(path: str, config: PruneConfig) -> PruneConfig | None:
    for pattern, override in config.layers.items():
        if fnmatch.fnmatchcase(path, pattern):
            return override
    return config


def _weights_to_prune(path: str, layer: keras.Layer, config: PruneConfig) -> dict[str, Axes]:
    found = compressible_weights(layer)
    for weight, variable in weights_by_path(layer).items():
        if any(fnmatch.fnmatchcase(f"{path}/{weight}".lstrip("/"), pattern) for pattern in config.extra_weights):
            rank = len(variable.shape)
            found.setdefault(weight, Axes((-2,), (-1,)) if rank >= 2 else Axes((), (-1,)))
    return found


def _check_patterns(model: keras.Model, config: PruneConfig) -> None:
    layers = dict(replaceable_layers(model))
    weights = [f"{path}/{weight}".lstrip("/") for path, layer in layers.items() for weight in weights_by_path(layer)]
    configs = [config, *(override for override in config.layers.values() if override is not None)]
    asked = [("layers", pattern, list(layers)) for pattern in config.layers]
    asked += [("extra_weights", pattern, weights) for c in configs for pattern in c.extra_weights]
    for name, pattern, candidates in asked:
        if not fnmatch.filter(candidates, pattern):
            shown = ", ".join(candidates[:8]) + (", ..." if len(candidates) > 8 else "")
            raise invalid_value(name, expected=f"a pattern that matches one of {shown}", received=f"'{pattern}'")


def _importance(model: keras.Model, config: PruneConfig) -> dict[str, np.ndarray]:
    """Importance from data by path of the weight, for the configs that score by data."""
    found: dict[str, np.ndarray] = {}
    for chosen in [config, *(override for override in config.layers.values() if override is not None)]:
        if chosen.criterion not in ("activation", "taylor"):
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
            if _config_for(path, config) is chosen:
                weights = weights_by_path(layer).items()
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


def _pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise invalid_type(name, expected="two integers", received=value)
    for number in value:
        if isinstance(number, bool) or not isinstance(number, numbers.Integral) or number < 1:
            raise invalid_value(name, expected="two integers >= 1", received=value)
    return int(value[0]), int(value[1])


def _last_sparsity(schedule: SparsitySchedule) -> float | None:
    if isinstance(schedule, PolynomialDecay):
        return schedule.final_sparsity
    return schedule.target_sparsity if isinstance(schedule, ConstantSparsity) else None
