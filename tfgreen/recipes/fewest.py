"""fewest: how few of ranked things are enough, in few trials."""

from __future__ import annotations

from collections.abc import Callable

_MOST_LEFT_OUT = 8  # things that are tried to be left out again, one trial each


def fewest(count: int, enough: Callable[[list[int]], bool]) -> list[int] | None:
    """A small set of ``count`` ranked things that is enough, as rising indices; None if not even all together are.

    By doubling and bisection, which assumes that more of them are no worse, the shortest row of first ones; then less
    those of its last nine that it can do without. The last call of ``enough`` that returns True is for the result.

    Example:
        >>> fewest(100, lambda chosen: {1, 4} <= set(chosen))
        [1, 4]
    """
    below, size = 0, min(1, count)  # so many are not enough; so many are tried
    while size > below and not enough(list(range(size))):
        below, size = size, min(2 * size, count)
    if size <= below:
        return None
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
