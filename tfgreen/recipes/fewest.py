"""fewest: how few of ranked things are enough, in few trials."""

from __future__ import annotations

from collections.abc import Callable

_MOST_LEFT_OUT = 8  # things that are tried to be left out again, one trial each


def fewest(count: int, enough: Callable[[list[int]], bool]) -> list[int] | None:
    """Find a small set of ranked things that is enough: by doubling and bisection, then by leaving out single ones.

    More of them must be no worse than fewer. The result is then the shortest row of first ones that is enough, less
    those of its last nine that it can do without.

    Args:
        count: How many things there are; those that matter most come first.
        enough: Whether the things of these indices are enough, at least one; the last call that returns True is for
            the result.

    Returns:
        Their indices in rising order, or None if all together are not enough.

    Example:
        >>> fewest(100, lambda chosen: {1, 4} <= set(chosen))
        [1, 4]
        >>> fewest(3, lambda chosen: False) is None
        True
    """
    below, size = 0, 1  # so many are not enough; so many are tried
    while True:
        size = min(size, count)
        if size <= below:
            return None
        if enough(list(range(size))):
            break
        below, size = size, 2 * size
    while size - below > 1:
        middle = (below + size) // 2
        if enough(list(range(middle))):
            size = middle
        else:
            below = middle
    found = list(range(size))
    # The last of them is needed, since without it the others are not enough.
    for index in found[-2::-1][:_MOST_LEFT_OUT]:
        fewer = [other for other in found if other != index]
        if enough(fewer):
            found = fewer
    return found
