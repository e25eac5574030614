"""PruneConfig: the settings of pruning, checked when they are made."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any

from tfgreen.config import Config, data_field
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.techniques.patterns import check_overrides
from tfgreen.training.schedules import ConstantSparsity, PolynomialDecay, SparsitySchedule, as_schedule
from tfgreen.transforms.mask import CRITERIA, FROM_DATA, SCOPES


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
            by Erdos-Renyi-Kernel (``"erk"``), which keeps more of small layers. Layers with settings of their own
            (``layers``) compete among themselves.
        block_size: ``(rows, columns)`` of blocks that are zero as a whole. A kernel is seen as a matrix of
            (inputs, outputs), a convolution's as (height * width * channels in, channels out).
        block_pooling: ``"AVG"`` or ``"MAX"``, the score of a block.
        m_by_n: ``(m, n)``: m zeros in every n weights along the input channels. On the way ``n * sparsity`` of them.
            A weight with no more than n - m input channels stays dense, which ``tg.report`` says.
        threshold: For the criterion of that name: a magnitude >= 0.
        data: For ``"activation"``: inputs; for ``"taylor"``: ``(inputs, targets)``; arrays of shape (samples, ...).
        loss: For ``"taylor"``: a Keras loss or its name.
        seed: For ``"random"``.
        layers: Name pattern (``"block*/conv"``) -> another ``PruneConfig`` for the layers it matches, or None to keep
            them dense. The first pattern that matches counts. Overrides do not nest.
        extra_weights: Patterns of weights (``"depthwise*/kernel"``, ``"*/bias"``) to prune besides those of
            ``tfgreen/model/support.py``.
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
        check_overrides(self)
        object.__setattr__(self, "layers", dict(self.layers))
        object.__setattr__(self, "extra_weights", tuple(self.extra_weights))
        for name, allowed in (("criterion", CRITERIA), ("scope", SCOPES), ("block_pooling", ("AVG", "MAX"))):
            if getattr(self, name) not in allowed:
                raise invalid_value(name, expected=f"one of {allowed}", received=repr(getattr(self, name)))
        self._check_shape_of_zeros()
        self._check_criterion()
        for pattern, override in self.layers.items():
            if override is not None and override.policy is not None:
                raise invalid_value(f"layers['{pattern}']", expected="no policy of its own", received=override.policy)
        if self.policy is not None and (isinstance(self.policy, type) or not callable(self.policy)):
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
        if self.threshold is not None:
            number = isinstance(self.threshold, numbers.Real) and not isinstance(self.threshold, bool)
            if not number or not 0 <= self.threshold < math.inf:
                raise invalid_value("threshold", expected="a magnitude >= 0", received=self.threshold)
        if isinstance(self.seed, bool) or not isinstance(self.seed, numbers.Integral) or self.seed < 0:
            raise invalid_value("seed", expected="an integer >= 0", received=self.seed)
        if self.data is not None and self.criterion not in FROM_DATA:
            raise invalid_value(
                "data", expected=f"none with criterion='{self.criterion}'", received=type(self.data).__name__,
                fix=f"Choose a criterion of {FROM_DATA}.",
            )  # fmt: skip
        if self.criterion == "taylor" and self.loss is None:
            raise invalid_value(
                "loss", expected="a Keras loss with criterion='taylor'", received="none",
                fix="Pass the loss the model is trained with: loss='sparse_categorical_crossentropy'.",
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
