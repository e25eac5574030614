"""Channel sensitivity: how much the outputs of a model change when a group loses its least important channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tfgreen.surgery.channel_groups import ChannelGroups
from tfgreen.surgery.channel_selection import Removed, removal_order

_SHARES = (0.25, 0.5, 1.0)  # of the channels that can go


def channel_errors(
    groups: ChannelGroups, scores: Sequence[np.ndarray | None], error: Callable[[Removed], float]
) -> list[np.ndarray | None]:
    """Of each group, the error of the outputs without its 0, 1, 2, ... least important channels.

    Measured at a quarter, half and all of the channels that can go, and its root linear between. Reference: H. Li et
    al., 2017, arXiv:1608.08710 (sensitivity of layers).

    Args:
        scores: How much each channel matters; None for a group that is not looked at.
        error: The squared error of the model without some channels.
    """
    found: list[np.ndarray | None] = []
    for group, score in zip(groups, scores):
        order = np.empty(0, int) if score is None else removal_order(group, score)
        if not len(order):
            found.append(None)
            continue
        counts = sorted({min(max(1, round(len(order) * share)), group.size - 1) for share in _SHARES})
        roots = [error([(group, order[:count])]) ** 0.5 for count in counts]
        found.append(np.interp(np.arange(len(order) + 1), [0, *counts], [0.0, *roots]) ** 2)
    return found
