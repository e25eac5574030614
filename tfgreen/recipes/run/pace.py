"""Pace: how long the rest of a run takes, from the trainings so far."""

from __future__ import annotations

from collections.abc import Sequence

from tfgreen.recipes.prune_channels_config import ChannelPruneConfig
from tfgreen.recipes.recipe.step_settings import DistillStep, TrainStep
from tfgreen.recipes.recipe.steps import Step

# What a step of ResNet-8 takes beside one of plain training, with a teacher and with ranges: `bench_distillation.py
# speed` and `bench_quantization.py speed`. Other networks differ, so that a plan is right within a factor of two.
_TEACHER, _ROUNDED = 1.25, 1.17


def weights(steps: Sequence[Step]) -> list[float]:
    """What each step takes, in epochs of plain training of the original; 0 for what does not train.

    Example:
        >>> weights([Step("train", {"epochs": 2}), Step("prune_channels", {"target_macs": 0.5}), Step("train", {})])
        [2.0, 0.0, 2.0]
    """
    found, size, masked, rounded = [], 1.0, 1.0, 1.0
    for step in steps:
        config = step.config if step.settings is not None else None
        if step.name == "remove_masked_channels" and config is not None:
            size, masked = size * masked, 1.0
        if isinstance(config, ChannelPruneConfig):
            targets = (config.target_macs, config.target_parameters)
            share = next((target for target in targets if target is not None), 1 - (config.ratio or 0.5))
            share = share if share <= 1 else 1.0
            size, masked = (size, share) if step.name == "mask_channels" else (size * share, masked)
        if step.name == "quantize" and config is not None:
            rounded = _ROUNDED
        if step.kind.strips and config is not None:
            rounded = 1.0
        if isinstance(config, TrainStep):
            teacher = _TEACHER - 1 if isinstance(config, DistillStep) else 0.0
            found.append(config.epochs * (size * rounded + teacher))
        else:
            found.append(0.0)
    return found


class Pace:
    """Tells the time that is left, once a part of a training is done.

    Example:
        >>> pace = Pace([0.0, 4.0, 2.0])
        >>> pace.left(1, share=0.5, seconds=60)
        'about 2 min of training left in all'
    """

    def __init__(self, expected: Sequence[float]) -> None:
        self._expected = list(expected)
        self._done = self._seconds = 0.0

    def finished(self, number: int, seconds: float) -> None:
        """Count a step that is done."""
        if self._expected[number]:
            self._done, self._seconds = self._done + self._expected[number], self._seconds + seconds

    def left(self, number: int, share: float, seconds: float) -> str:
        """The time that is left while a share of a step is done; "" where nothing tells."""
        done, spent = self._done + share * self._expected[number], self._seconds + seconds
        if not done:
            return ""
        own, rate = (1 - share) * self._expected[number], spent / done
        of_step = max(own * rate, seconds * (1 - share) / share if share and own else 0.0)
        left = of_step + sum(self._expected[number + 1 :]) * rate
        told = f"{left / 60:.0f} min" if left >= 90 else f"{max(1, round(left)):d} s"
        return f"about {told} of training left in all"
