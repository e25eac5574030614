"""The steps that a recipe may have: each verb, its settings, and what it needs of the model and the data."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from tfgreen.config import Config
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.errors import invalid_value
from tfgreen.recipes.factorize import FactorizeConfig
from tfgreen.recipes.prune_channels_config import ChannelPruneConfig
from tfgreen.recipes.recipe.choices import check_mapping
from tfgreen.recipes.recipe.step_settings import DistillStep, NoSettings, PruneStep, TargetStep, TrainStep
from tfgreen.techniques.cluster import ClusterConfig
from tfgreen.techniques.quantize_config import QuantizeConfig

_DATA = ("calibration_data", "x", "y", "loss")  # which the run fills in, from training samples


@dataclasses.dataclass(frozen=True)
class StepKind:
    """A verb as a step.

    Attributes:
        config: The class of its settings.
        filled: Fields that a recipe does not give, since the run or another field does.
        trains: Whether it trains, which takes time and targets.
        lossy: Whether it is for a training that follows, without which the model would lose much.
        strips: Whether it leaves plain layers, whatever was compressed before.
        compresses: Whether layers are compressed after it, until the model is stripped.
        plain: Whether it takes only a model without compressed layers.
        reads_file: Whether it looks at the file that was made last.
    """

    config: type[Config]
    filled: tuple[str, ...] = ()
    trains: bool = False
    strips: bool = False
    lossy: bool = False
    compresses: bool = False
    plain: bool = False
    reads_file: bool = False

    @property
    def fields(self) -> list[str]:
        """The names of the settings that a recipe may give."""
        return [field.name for field in dataclasses.fields(self.config) if field.name not in self.filled]


KINDS: Mapping[str, StepKind] = {
    "train": StepKind(TrainStep, ("max_kwh", "max_co2_kg", "region", "steps_per_epoch"), trains=True),
    "distill": StepKind(DistillStep, ("max_kwh", "max_co2_kg", "region", "steps_per_epoch"), trains=True),
    "prune_channels": StepKind(ChannelPruneConfig, _DATA, lossy=True, plain=True),
    "mask_channels": StepKind(ChannelPruneConfig, _DATA, lossy=True, plain=True, compresses=True),
    "remove_masked_channels": StepKind(NoSettings, strips=True),
    "factorize": StepKind(FactorizeConfig, _DATA, lossy=True, plain=True),
    "prune": StepKind(PruneStep, (*_DATA, "schedule", "policy"), lossy=True, compresses=True),
    "cluster": StepKind(ClusterConfig, (), lossy=True, compresses=True),
    "quantize": StepKind(QuantizeConfig, (*_DATA, "weight_transform"), compresses=True),
    "equalize": StepKind(NoSettings, plain=True),
    "correct_bias": StepKind(NoSettings, plain=True),
    "fold_batch_norm": StepKind(NoSettings, plain=True),
    "recalibrate_batch_norm": StepKind(NoSettings, plain=True),
    "strip": StepKind(NoSettings, strips=True),
    "convert": StepKind(ConvertConfig, _DATA),
    "check_target": StepKind(TargetStep, reads_file=True),
    "verify": StepKind(NoSettings, reads_file=True),
    "benchmark": StepKind(NoSettings, reads_file=True),
    "energy": StepKind(NoSettings, reads_file=True),
}


def kind_of(name: str, subject: str) -> StepKind:
    """The kind of a step; raises with the nearest name."""
    if name not in KINDS:
        near = difflib.get_close_matches(name, KINDS, 1)
        fix = f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(KINDS)}."
        raise invalid_value(subject, expected="a step", received=repr(name), fix=fix)
    return KINDS[name]


def config_of(name: str, settings: Mapping[str, Any], subject: str) -> Config:
    """The config of a step with these settings, all of which are decided."""
    kind = kind_of(name, subject)
    check_mapping(subject, settings)
    check_fields(kind, settings, subject)
    return kind.config(**{field: _value(kind, field, value) for field, value in settings.items()})


def check_fields(kind: StepKind, settings: Mapping[str, Any], subject: str) -> None:
    """Raise on a setting that is none of the step; the nearest is named."""
    for field in settings:
        if field not in kind.fields:
            near = difflib.get_close_matches(field, kind.fields, 1)
            fix = f"Did you mean '{near[0]}'?" if near else ""
            expected = f"one of {kind.fields}" if kind.fields else "no settings"
            raise invalid_value(f"{subject}, {field}", expected=expected, received="no setting of this step", fix=fix)


def _value(kind: StepKind, field: str, value: Any) -> Any:
    """A setting as its config takes it: overrides of layers as configs of their own."""
    if field == "layers" and isinstance(value, Mapping):
        return {name: _override(kind, item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _override(kind: StepKind, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    check_fields(kind, value, "layers")
    return kind.config(**{field: _value(kind, field, item) for field, item in value.items()})
