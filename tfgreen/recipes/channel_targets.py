"""Channel targets: the fewest channels to remove for a model to cost no more than so much."""

from __future__ import annotations

from collections.abc import Callable

from tfgreen.surgery.channel_selection import ChannelSelection, Removed

Cost = Callable[[Removed], float]


class Unreachable(Exception):
    """No selection costs as little as asked for; ``least`` is what the smallest costs."""

    def __init__(self, least: float) -> None:
        super().__init__(least)
        self.least = least


def reach(
    selection: ChannelSelection, target: float, cost: Cost, estimate: Cost | None = None, tolerance: float = 0.0
) -> tuple[float, float]:
    """The share of channels without which the model costs most of what is no more than the target, and that cost.

    By bisection, which assumes that fewer channels never cost more. If ``cost`` has to be measured, an ``estimate``
    that is about linear in it says where to look, and a cost within half the ``tolerance``, a share of the target, ends
    the search.

    Raises:
        Unreachable: Not even the smallest is as small, or within the tolerance.
    """
    shares = selection.shares
    known: dict[tuple[int, ...], float] = {}

    def found(place: int) -> float:
        removed = selection.removed(shares[place])
        key = tuple(number for group, channels in removed for number in (id(group), len(channels)))
        if key not in known:
            known[key] = cost(removed)
        return known[key]

    low, high = 0, len(shares) - 1
    if found(high) > target:
        if found(high) > target * (1 + tolerance):
            raise Unreachable(found(high))
        return shares[high], found(high)
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
    if found(low) - target <= min(tolerance * target, target - found(high)):
        high = low
    return shares[high], found(high)


def _interpolated(
    selection: ChannelSelection, shares: list[float], estimate: Cost, low: tuple[int, float], high: tuple[int, float],
    target: float,
) -> int:
    """The place between two at which the target lies if the cost is linear in the estimate."""
    (left, most), (right, least) = low, high
    at_left, at_right = (estimate(selection.removed(shares[place])) for place in (left, right))
    wanted = at_right + (at_left - at_right) * (target - least) / max(most - least, 1e-12)
    first, last = left + 1, right - 1
    while first < last:
        middle = (first + last) // 2
        if estimate(selection.removed(shares[middle])) > wanted:
            first = middle + 1
        else:
            last = middle
    return first
