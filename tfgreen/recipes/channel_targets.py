"""Channel targets: the fewest channels to remove for a model to cost no more than so much."""

from __future__ import annotations

import functools
from collections.abc import Callable

from tfgreen.surgery.channel_selection import ChannelSelection, Removed, Widths

Cost = Callable[[Removed], float]

_NEAR = 0.02  # of the target: no other groups are tried for less
_TRIES = 3  # measurements of widths that an estimate finds


class Unreachable(Exception):
    """No selection costs as little as asked for; ``least`` is what the smallest costs."""

    def __init__(self, least: float) -> None:
        super().__init__(least)
        self.least = least


def reach(
    selection: ChannelSelection, target: float, cost: Cost, estimate: Cost | None = None, tolerance: float = 0.0
) -> tuple[Widths, float]:
    """The widths with which the model costs most of what is no more than the target, and that cost.

    First the share of the channels that goes is found, by bisection, which assumes that fewer channels never cost more;
    then single groups make up for what widths in steps leave. If ``cost`` has to be measured, an ``estimate`` that is
    about linear in it says where to look, and a cost within half the ``tolerance``, a share of the target, ends the
    search.

    Raises:
        Unreachable: Not even the smallest is as small, or within the tolerance.
    """
    shares = selection.shares
    known: dict[Widths, float] = {}

    def of(widths: Widths) -> float:
        if widths not in known:
            known[widths] = cost(selection.removed(widths))
        return known[widths]

    def found(place: int) -> float:
        return of(selection.widths(shares[place]))

    low, high = 0, len(shares) - 1
    if found(high) > target:
        if found(high) > target * (1 + tolerance):
            raise Unreachable(found(high))
        return selection.widths(shares[high]), found(high)
    for step in range(4 * len(shares)):
        if high - low < 2 or abs(found(high) - target) <= tolerance / 2 * target:
            break
        middle = (low + high) // 2
        if estimate is not None and step % 2 == 0:  # every second step halves what is left, whatever is estimated
            middle = _interpolated(selection, shares, estimate, (low, found(low)), (high, found(high)), target)
        if found(middle) > target:
            low = middle
        else:
            high = middle
    above, below = selection.widths(shares[low]), selection.widths(shares[high])
    if estimate is None:
        best = nearest(selection, above, below, target, of)
        return best, of(best)

    @functools.cache
    def estimated(widths: Widths) -> float:
        return estimate(selection.removed(widths))

    upper, lower = (estimated(above), of(above)), (estimated(below), of(below))
    for _ in range(_TRIES):
        if target - lower[1] <= max(_NEAR, tolerance / 2) * target:
            break
        wanted = lower[0] + (upper[0] - lower[0]) * (target - lower[1]) / max(upper[1] - lower[1], 1e-12)
        widths = nearest(selection, above, below, wanted, estimated)
        if widths in known:
            break
        point = estimated(widths), of(widths)
        upper, lower = (point, lower) if point[1] > target else (upper, point)
    fit = [widths for widths, value in known.items() if value <= target * (1 + tolerance)]
    best = min(fit, key=lambda widths: (abs(known[widths] - target), -sum(widths)))
    return best, known[best]


def nearest(
    selection: ChannelSelection, above: Widths, below: Widths, target: float, cost: Callable[[Widths], float]
) -> Widths:
    """Widths between two, one above and one below the target, or beside them, that cost most of what is no more.

    From above the least important steps are taken one by one, and then whatever still fits is given back. If the step
    that falls below the target falls far below it, its group stays as it is and the others go on.
    """
    best, widths, staying = _given_back(selection, below, target, cost), above, set[int]()
    while cost(best) < (1 - _NEAR) * target:
        step = next((step for step in selection.narrower(widths) if step[1] not in staying), None)
        if step is None:
            break
        _, number, less = step
        if cost(less) > target:
            widths = less
            continue
        staying.add(number)
        best = max(best, _given_back(selection, less, target, cost), key=cost)
    return best


def _given_back(
    selection: ChannelSelection, widths: Widths, target: float, cost: Callable[[Widths], float]
) -> Widths:
    """The widths with as many steps of single groups back as fit, the most important first."""
    full = set[int]()  # whose next step does not fit, nor will when others are wider
    while True:
        step = next((step for step in selection.wider(widths) if step[1] not in full), None)
        if step is None:
            return widths
        _, number, more = step
        if cost(more) <= target:
            widths = more
        else:
            full.add(number)


def _interpolated(
    selection: ChannelSelection, shares: list[float], estimate: Cost, low: tuple[int, float], high: tuple[int, float],
    target: float,
) -> int:
    """The place between two at which the target lies if the cost is linear in the estimate."""

    def estimated(place: int) -> float:
        return estimate(selection.removed(selection.widths(shares[place])))

    (left, most), (right, least) = low, high
    at_left, at_right = estimated(left), estimated(right)
    wanted = at_right + (at_left - at_right) * (target - least) / max(most - least, 1e-12)
    first, last = left + 1, right - 1
    while first < last:
        middle = (first + last) // 2
        if estimated(middle) > wanted:
            first = middle + 1
        else:
            last = middle
    return first
