"""Draw samples out of others: evenly over the classes, the same with the same seed."""

from __future__ import annotations

import dataclasses
from typing import TypedDict

import numpy as np

from tfgreen.checks import check_integer, check_number
from tfgreen.config import Config
from tfgreen.errors import invalid_value


@dataclasses.dataclass(frozen=True)
class SplitConfig(Config):
    """What is drawn from the training samples where it was not given.

    Args:
        validation_share: Share of the training samples that becomes the validation split, in [0, 0.5]; 0 for none.
        test_share: The same for the test split.
        seed: Equal seeds draw equal samples.
    """

    validation_share: float = 0.1
    test_share: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("validation_share", "test_share"):
            check_number(name, getattr(self, name), minimum=0, maximum=0.5)
        check_integer("seed", self.seed, minimum=0)


class SplitOptions(TypedDict, total=False):
    """The fields of :class:`SplitConfig` as keyword arguments."""

    validation_share: float
    test_share: float
    seed: int


def draw(total: int, share: float, seed: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, bool]:
    """The numbers of ``share`` of ``total`` samples, in ascending order, and whether they were drawn by class.

    With the class of each sample, each class of two samples or more gives its share, to one sample, and keeps one at
    least; classes of one sample give none. Where these are most of all (integers that are no classes), all samples are
    alike.

    Raises:
        ValueError: There are fewer than two samples.

    Example:
        >>> rows, by_class = draw(10, 0.4, 0, np.array([0] * 5 + [1] * 5))
        >>> (rows < 5).sum(), (rows >= 5).sum(), by_class
        (np.int64(2), np.int64(2), True)
    """
    if total < 2:
        fix = "Pass that split, or a share of 0."
        raise invalid_value("train", expected="two samples or more to draw a split from", received=total, fix=fix)
    order = np.random.default_rng(seed).permutation(total)
    by_class = False
    if classes is not None:
        _, group, sizes = np.unique(classes, return_inverse=True, return_counts=True)
        several = order[sizes[group[order]] > 1]
        by_class = 2 * len(several) > total
        if by_class:
            order = several[np.argsort(group[several], kind="stable")]
    count = min(max(1, round(share * total)), len(order) // 2)
    # Sorted by class, places at equal distances of two or more take from each class as many as it is large.
    places = ((np.arange(count) + 0.5) * len(order) / count).astype(int)
    return np.sort(order[places]), by_class
