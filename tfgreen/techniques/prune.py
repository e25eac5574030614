"""prune: zeros where weights matter least, following a schedule while the model trains.

Reference: M. Zhu and S. Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878. Masks are in
``transforms/mask.py``, what is done from data in ``transforms/importance.py`` (gradients) and ``transforms/one_shot/``,
schedules and the callback in ``training/``.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias, TypedDict, get_args

import keras
import numpy as np

from tfgreen.checks import check_integer, check_number, check_option
from tfgreen.config import Config, data_field, resolve_config
from tfgreen.errors import invalid_state, invalid_type, invalid_value, layer_subject
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.paths import check_built_model, holder_of, replaceable_layers, weights_by_path
from tfgreen.model.samples import sample_batches
from tfgreen.model.weights import Axes, Reasons, compressible_weights
from tfgreen.techniques.overrides import (
    all_settings,
    by_attributes,
    check_overrides,
    check_patterns,
    check_without,
    settings_for,
    weights_to_compress,
)
from tfgreen.training.schedules import ConstantSparsity, ScheduleLike, as_schedule
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.compressed import has_transform
from tfgreen.transforms.importance import Loss, taylor_importance
from tfgreen.transforms.lora import merged_value
from tfgreen.transforms.mask import Criterion, Mask, Scope
from tfgreen.transforms.one_shot.layer_by_layer import LayerByLayer
from tfgreen.transforms.one_shot.prune_at_once import MEASURES, prune_at_once
from tfgreen.transforms.selection import Pooling, check_finite
from tfgreen.typing import Arrays, Samples

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Path of each layer -> "" if it may be pruned, else the reason why not.
Policy: TypeAlias = Callable[[keras.Model], Mapping[str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PruneConfig(Config):
    """How to prune.

    Attributes:
        schedule: Sparsity over the training steps: ``tg.PolynomialDecay``, ``tg.ConstantSparsity``, any TFMOT
            ``PruningSchedule``, or a function of the step that returns the sparsity.
        criterion: How weights are scored: ``"magnitude"``; ``"threshold"`` (magnitude, and all up to ``threshold`` go,
            whatever the sparsity); ``"taylor"`` (first-order change of ``loss`` on ``x, y``); ``"random"``. Two prune
            at once, without training, layer by layer on ``calibration_data``: ``"wanda"`` (magnitude times the norm of
            what the weight multiplies, compared within each output) and ``"sparsegpt"`` (dense layers, EinsumDense,
            attention and convolutions: the weights that stay are changed so that each layer returns what it did, by
            least squares once its zeros are chosen).
        scope: What competes: ``"layer"`` by layer, ``"global"`` over the model, or by layer with sparsities shared out
            by Erdos-Renyi-Kernel (``"erk"``: more of small layers stays). Layers of an override compete by themselves.
        block_size: ``(rows, columns)`` of blocks that are zero as a whole. A kernel is seen as a matrix of
            (inputs, outputs), a convolution's as (height * width * channels in, channels out).
        block_pooling: ``"AVG"`` or ``"MAX"``, the score of a block.
        m_by_n: ``(m, n)``: m zeros in every n weights along the input channels. On the way ``n * sparsity`` of them.
            A weight with no more than n - m input channels stays dense, which ``tg.summary`` says.
        threshold: For the criterion of that name: a magnitude >= 0.
        calibration_data: For ``"wanda"`` and ``"sparsegpt"``: inputs of shape (samples, ...) in the structure the model
            takes; a hundred or more.
        x: For ``"taylor"``: the same.
        y: For ``"taylor"``: targets of shape (samples, ...) in the structure of the outputs.
        loss: For ``"taylor"``: a Keras loss or its name.
        seed: For ``"random"``.
        layers: Name pattern (``"block*/conv"``) -> another ``PruneConfig`` for the layers it matches, or None to keep
            them dense; those inside a block or a task of KerasHub's (``"bert_backbone/transformer_layer_0"``) too, by
            the attributes that hold them or by their names. The first pattern that matches counts. Overrides do not
            nest.
        extra_weights: Patterns of weights (``"depthwise*/kernel"``, ``"*/bias"``) to prune besides those of
            ``tfgreen/model/weights.py``.
        policy: A callable of the model, such as ``tg.PruneForLatencyOnXNNPack()``. It returns the path of a layer ->
            ``""`` if the layer may be pruned, else the reason why not; layers that it does not name may be.

    Raises:
        ValueError, TypeError: A setting is out of range, of another type, or does not go with another.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0), layers={"head": None})
        >>> tg.PruneConfig.from_dict(config.to_dict()) == config
        True
    """

    schedule: ScheduleLike = ConstantSparsity(0.5, begin_step=0, frequency=100)
    criterion: Criterion = "magnitude"
    scope: Scope = "layer"
    block_size: tuple[int, int] = (1, 1)
    block_pooling: Pooling = "AVG"
    m_by_n: tuple[int, int] | None = None
    threshold: float | None = None
    calibration_data: Samples | None = data_field()
    x: Samples | None = data_field()
    y: Arrays | None = data_field()
    loss: Loss | None = None
    seed: int = 0
    layers: Mapping[str, PruneConfig | None] = dataclasses.field(default_factory=dict)
    extra_weights: tuple[str, ...] = ()
    policy: Policy | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        object.__setattr__(self, "block_size", _pair("block_size", self.block_size))
        if self.m_by_n is not None:
            object.__setattr__(self, "m_by_n", _pair("m_by_n", self.m_by_n))
        check_overrides(self, of_model=("policy",))
        check_option("criterion", self.criterion, get_args(Criterion))
        check_option("scope", self.scope, get_args(Scope))
        check_option("block_pooling", self.block_pooling, get_args(Pooling))
        check_integer("seed", self.seed, minimum=0)
        self._check_shape_of_zeros()
        self._check_criterion()
        if self.policy is not None and (isinstance(self.policy, type) or not callable(self.policy)):
            raise invalid_type("policy", expected="a callable of the model", received=self.policy)

    def _check_shape_of_zeros(self) -> None:
        if self.m_by_n is not None:
            m, n = self.m_by_n
            if m >= n:
                raise invalid_value("m_by_n", expected="fewer zeros (m) than weights (n)", received=self.m_by_n)
            goal = as_schedule(self.schedule).goal
            if goal is not None and round(n * goal[1], 6) < m:
                expected = f"a final sparsity >= {m / n:g}, which m_by_n={self.m_by_n} needs"
                raise invalid_value("schedule", expected=expected, received=goal[1], fix=f"Set it to {m / n:g}.")
            if self.block_size != (1, 1):
                raise invalid_value("block_size", expected="(1, 1) with m_by_n", received=self.block_size)
        at_once = self.criterion in MEASURES
        if at_once and self.block_size != (1, 1):
            expected = f"(1, 1) with criterion='{self.criterion}'"
            raise invalid_value("block_size", expected=expected, received=self.block_size)
        clashes = {
            f"criterion='{self.criterion}'": at_once,
            f"m_by_n={self.m_by_n}": self.m_by_n is not None,
            "criterion='threshold'": self.criterion == "threshold",
            f"block_size={self.block_size}": self.block_size != (1, 1) and self.scope == "global",
        }
        for setting, clash in clashes.items():
            if clash and self.scope != "layer":
                raise invalid_value("scope", expected=f"'layer' with {setting}", received=repr(self.scope))

    def _check_criterion(self) -> None:
        for name, criteria in _NEEDED_BY.items():
            value = getattr(self, name)
            if value is not None and self.criterion not in criteria:
                received = value if isinstance(value, (int, float)) else type(value).__name__
                expected, fix = f"None with criterion='{self.criterion}'", f"Choose criterion='{criteria[0]}'."
                raise invalid_value(name, expected=expected, received=received, fix=fix)
        if self.criterion == "threshold" and self.threshold is None:
            raise invalid_state("criterion='threshold' needs a threshold.", "Set it to a magnitude >= 0.")
        if self.threshold is not None:
            check_number("threshold", self.threshold, minimum=0)
        if self.criterion == "taylor" and self.loss is None:
            fix = "Pass the loss the model is trained with: loss='sparse_categorical_crossentropy'."
            raise invalid_state("criterion='taylor' needs a loss.", fix)
        goal = as_schedule(self.schedule).goal
        if self.criterion in MEASURES and (goal is None or goal[0] != 0):
            expected = f"its final sparsity from step 0 on with criterion='{self.criterion}', which prunes at once"
            fix = "Pass tg.ConstantSparsity(0.5, begin_step=0)."
            raise invalid_value("schedule", expected=expected, received=self.schedule, fix=fix)


class PruneOptions(TypedDict, total=False):
    """The fields of :class:`PruneConfig` as keyword arguments."""

    schedule: ScheduleLike
    criterion: Criterion
    scope: Scope
    block_size: tuple[int, int]
    block_pooling: Pooling
    m_by_n: tuple[int, int] | None
    threshold: float | None
    calibration_data: Samples | None
    x: Samples | None
    y: Arrays | None
    loss: Loss | None
    seed: int
    layers: Mapping[str, PruneConfig | None]
    extra_weights: tuple[str, ...]
    policy: Policy | None


# Criterion -> the data that it reads.
_READ_DATA: Mapping[str, tuple[str, ...]] = {**dict.fromkeys(MEASURES, ("calibration_data",)), "taylor": ("x", "y")}
# Field -> the criteria that need it.
_NEEDED_BY = {
    "threshold": ("threshold",), "calibration_data": tuple(MEASURES), **dict.fromkeys(("x", "y", "loss"), ("taylor",)),
}


def _pair(name: str, value: Sequence[int]) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise invalid_type(name, expected="two integers", received=value)
    for number in value:
        check_integer(name, number, minimum=1)
    return int(value[0]), int(value[1])


def prune(model: keras.Model, config: PruneConfig | None = None, **options: Unpack[PruneOptions]) -> keras.Model:
    """Return a copy of ``model`` that becomes sparse as it trains.

    The least important weights of each kernel are held at zero; ``tfgreen/model/weights.py`` lists the kernels.
    Biases, normalization and depthwise kernels stay dense unless asked for, which ``tg.summary`` shows layer by layer.
    Compile the result, fit it with ``callbacks=[tg.UpdateCompression()]``, and bake it with ``tg.strip``. With
    ``"wanda"`` and ``"sparsegpt"`` it is pruned already: strip it at once, or train it before; its zeros stay zeros.

    Args:
        model: Any built Keras 3 model. It is not changed.
        config: How to prune; by default half of each kernel, from the first step on.
        options: Fields of :class:`PruneConfig`, which override those of ``config``.

    Returns:
        A model of the same layers, names and shapes, not compiled.

    Raises:
        TypeError: ``model`` or ``config`` is of another type, or an option is no field.
        ValueError: The model is not built, is pruned already, holds NaN or infinite weights, has no weight that can be
            pruned or is smaller than a block, a pattern matches nothing, the criterion lacks its data, the policy
            refuses the model, or a layer cannot be copied. The layer is named.

    Example:
        >>> import keras, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> pruned = tg.prune(model, schedule=tg.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=100))
        >>> pruned.get_layer("out").chains[0].weight
        'kernel'
    """
    config = resolve_config(PruneConfig, config, options)
    check_built_model(model)
    config = by_attributes(model, config)
    check_patterns(model, config)
    verdicts = _verdicts(model, config.policy)
    batches = _batches(model, config)
    importance = _importance(model, config, batches)
    budgets = {id(chosen): budget for budget, chosen in enumerate(all_settings(config))}
    numbers = itertools.count(1)

    def masks(path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> Choice:
        check_without(path, layer, chains, Mask, "pruned")
        if verdicts.get(path) and settings_for(path, config) is not None:
            return Choice(reason=verdicts[path])
        return masks_of(path, layer, config, numbers, budgets, importance)

    result = compress(model, masks)
    if not has_transform(result, Mask):
        fix = "tg.summary(model) says why for each layer."
        raise invalid_state(f"model '{model.name}' has no weight that can be pruned.", fix)
    for chosen in all_settings(config):
        if id(chosen) in batches:
            _, sparsity = as_schedule(chosen.schedule).goal or (0, 0.0)
            prune_at_once(result, budgets[id(chosen)], sparsity, batches[id(chosen)])
    return result


def masks_of(
    path: str, layer: keras.Layer, config: PruneConfig, numbers: Iterator[int],
    budgets: Mapping[int, int] = MappingProxyType({}),
    importance: Mapping[str, np.ndarray | None] = MappingProxyType({}),
) -> Choice:
    """The masks of one built layer; ``numbers`` tell its random ones from those of the other layers, ``budgets`` of
    which settings, by ``id``, they are."""
    variables = weights_by_path(layer)
    found: dict[str, Sequence[TensorTransform]] = {}
    reasons: dict[str, str] = {}
    for weight, (axes, chosen) in weights_to_compress(path, layer, config, "get_prunable_weights").items():
        if chosen is None:
            reasons[weight] = Reasons.SETTINGS
            continue
        value = keras.ops.convert_to_numpy(merged_value(layer, variables[weight]))
        _check_weight(path, layer, weight, value, axes, chosen)
        channels = variables[weight].shape[_input_axis(axes)]
        if chosen.m_by_n is not None and channels <= chosen.m_by_n[1] - chosen.m_by_n[0]:
            reasons[weight] = Reasons.FEW_CHANNELS.format(channels=channels, m_by_n=chosen.m_by_n)
            continue
        name = f"{path}/{weight}"
        if chosen.criterion in _READ_DATA and name not in importance:
            if weight not in compressible_weights(layer):
                subject = layer_subject(path, layer)
                expected = f"weights that criterion='{chosen.criterion}' scores"
                fix = f"Give the layer another one: layers={{'{holder_of(path, weight)}': PruneConfig(...)}}."
                raise invalid_value(subject, expected=expected, received=f"'{weight}'", fix=fix)
            reasons[weight] = Reasons.NO_INPUTS.format(criterion=chosen.criterion)
            continue
        found[weight] = [_mask(chosen, axes, next(numbers), budgets.get(id(chosen), 0), importance.get(name))]
    return Choice(found, reasons=reasons)


def _mask(config: PruneConfig, axes: Axes, number: int, budget: int, importance: np.ndarray | None) -> Mask:
    schedule = None if config.criterion in MEASURES else as_schedule(config.schedule)
    return Mask(
        schedule, config.criterion, config.scope, config.block_size, config.block_pooling,
        config.m_by_n, _input_axis(axes), axes.outputs, config.threshold,
        seed=config.seed + number,  # or weights of equal shape would lose the same places
        importance=importance, budget=budget,
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


def _batches(model: keras.Model, config: PruneConfig) -> dict[int, list[dict[str, np.ndarray]]]:
    """The samples that each config prunes at once on, by its ``id``; an error if a criterion lacks its data."""
    found = {}
    for chosen in all_settings(config):
        names = _READ_DATA.get(chosen.criterion, ())
        if any(getattr(chosen, name) is None for name in names):
            form = ", ".join(f"{name}={name[0].replace('c', 'x')}[:512]" for name in names)
            fix = f"Pass a few hundred training samples: tg.prune(model, criterion='{chosen.criterion}', {form})."
            raise invalid_state(f"criterion='{chosen.criterion}' scores weights by data.", fix)
        if chosen.calibration_data is not None:
            found[id(chosen)] = list(sample_batches(chosen.calibration_data, read_call_spec(model)))
    return found


def _importance(
    model: keras.Model, config: PruneConfig, batches: Mapping[int, list[dict[str, np.ndarray]]]
) -> dict[str, np.ndarray | None]:
    """By path the weights that a criterion can score from data, with their importance if it is known by now."""
    found: dict[str, np.ndarray | None] = {}
    for chosen in all_settings(config):
        by_variable: Mapping[int, np.ndarray | None] = {}
        if id(chosen) in batches:
            by_variable = dict.fromkeys(LayerByLayer(model, batches[id(chosen)], MEASURES[chosen.criterion]).measured)
        elif chosen.x is not None and chosen.y is not None and chosen.loss is not None:
            by_variable = taylor_importance(model, chosen.x, chosen.y, chosen.loss)
        for path, layer in replaceable_layers(model):
            for name, v in weights_by_path(getattr(layer, "stands_for", layer)).items():
                if id(v) in by_variable and settings_for(path, config, name) is chosen:
                    found[f"{path}/{name}"] = by_variable[id(v)]
    return found


def _check_weight(
    path: str, layer: keras.Layer, weight: str, value: np.ndarray, axes: Axes, config: PruneConfig
) -> None:
    subject = f"{layer_subject(path, layer)}, '{weight}'"
    fix = "They cannot be ranked; load a healthy checkpoint."
    check_finite(value, subject, fix)
    outputs = math.prod(value.shape[axis] for axis in axes.outputs)
    matrix = (value.size // outputs, outputs)
    if config.block_size[0] > matrix[0] or config.block_size[1] > matrix[1]:
        expected = f"a block no larger than the weight, a matrix of {matrix}"
        fix = f"Choose a smaller block_size, or leave the layer out: layers={{'{holder_of(path, weight)}': None}}."
        raise invalid_value(subject, expected=expected, received=config.block_size, fix=fix)
