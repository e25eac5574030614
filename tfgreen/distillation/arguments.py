"""The arguments of ``tg.Distiller`` that count losses and teachers, checked and in one form."""

from __future__ import annotations

from collections.abc import Sequence

from tfgreen.checks import check_instance, check_number
from tfgreen.distillation.losses import AnyLoss, check_schedule
from tfgreen.errors import invalid_value
from tfgreen.typing import Schedule


def checked_losses(losses: AnyLoss | Sequence[AnyLoss]) -> tuple[AnyLoss, ...]:
    """One loss or several as a tuple, or a TypeError or ValueError."""
    listed = tuple(losses) if isinstance(losses, (list, tuple)) else (losses,)
    if not listed:
        raise invalid_value("distillation_losses", expected="one distillation loss or more", received="an empty list")
    expected = "distillation losses, such as tg.LogitsDistillation(temperature=4.0)"
    for loss in listed:
        check_instance("distillation_losses", loss, AnyLoss, expected)
    return listed


def checked_weights(weights: Sequence[Schedule] | None, count: int) -> tuple[Schedule, ...]:
    """What each loss counts, numbers >= 0 or schedules of such, 1 for None; or a TypeError or ValueError."""
    weights = (1.0,) * count if weights is None else weights
    check_instance("distillation_loss_weights", weights, (list, tuple), "a list of numbers, or None")
    if len(weights) != count:
        expected = f"{count} numbers, one for each loss"
        raise invalid_value("distillation_loss_weights", expected=expected, received=list(weights))
    for weight in weights:
        check_schedule("distillation_loss_weights", weight, minimum=0)
    return tuple(weights)


def shares_of(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """What each teacher counts, divided by the sum, equally for None; or a TypeError or ValueError."""
    if not count:
        raise invalid_value("teacher", expected="a model, or a list of them", received="an empty list")
    weights = (1.0,) * count if weights is None else weights
    for weight in weights:
        check_number("teacher_weights", weight, minimum=0)
    if len(weights) != count or not sum(weights):
        expected = f"{count} numbers >= 0, one for each teacher, not all of them 0"
        raise invalid_value("teacher_weights", expected=expected, received=list(weights))
    return tuple(float(weight) / sum(weights) for weight in weights)
