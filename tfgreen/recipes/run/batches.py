"""Batches: how many a split has."""

from __future__ import annotations

from tfgreen.recipes.data.split import Split


def batches_of(split: Split, batch_size: int) -> int:
    """How many batches a pass over a split has; a dataset that does not say is counted."""
    if split.count is not None and (split.in_files or not split.in_batches):
        return -(-split.count // batch_size)
    known = int(split.x.cardinality())
    return known if known >= 0 else sum(1 for _ in split.x)
