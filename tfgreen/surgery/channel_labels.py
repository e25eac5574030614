"""Labels of channels: which slices of which tensors and weights can only be removed together.

Every axis of a tensor or weight that can shrink holds one label per index; labels that must go together are united.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Labels = np.ndarray  # integers, one per index of an axis
Axis = Labels | None  # None: the axis keeps its size
Axes = tuple[Axis, ...]


class ChannelLabels:
    """A union-find over labels (Tarjan, 1975), in which a set of labels can be fixed: never removed, for a reason.

    Example:
        >>> labels = ChannelLabels()
        >>> x, y = labels.new(2), labels.new(2)
        >>> labels.unite(x, y, "they are added")
        >>> labels.fix(y[:1], "it is an output")
        >>> labels.roots(x).tolist() == labels.roots(y).tolist(), labels.reasons()[int(labels.roots(x)[0])]
        (True, 'it is an output')
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._fixed: dict[int, str] = {}

    def new(self, count: int) -> Labels:
        """Labels of ``count`` channels that go with nothing yet."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def unite(self, one: Axis, other: Axis, reason: str) -> None:
        """Let two axes of one size shrink together, index by index; neither does if one keeps its size."""
        if one is None or other is None:
            self.fix(one, reason)
            self.fix(other, reason)
            return
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            a, b = self._root(a), self._root(b)
            self._parents[max(a, b)] = min(a, b)

    def unite_along(self, labels: Labels, axis: int) -> Labels:
        """Let all labels that share an index of one axis of an array go together; returns one label for each index."""
        rows = np.moveaxis(labels, axis, 0).reshape(labels.shape[axis], -1)
        for column in rows.T[1:]:
            self.unite(rows[:, 0], column, "")
        return rows[:, 0]

    def fix(self, labels: Axis, reason: str) -> None:
        """Never remove these; the first reason given for a label is kept."""
        for label in [] if labels is None else np.unique(labels).tolist():
            self._fixed.setdefault(label, reason)

    def fix_first(self, labels: Axis, reason: str) -> None:
        """The same, for a reason that goes before any other of theirs."""
        first = {} if labels is None else dict.fromkeys(np.unique(labels).tolist(), reason)
        self._fixed = first | {label: other for label, other in self._fixed.items() if label not in first}

    def roots(self, labels: Labels) -> Labels:
        """One label for each set: equal where labels go together."""
        return np.array([self._root(label) for label in labels.ravel().tolist()], int).reshape(labels.shape)

    def reasons(self) -> dict[int, str]:
        """Why the sets that are never removed are not, by the label that :meth:`roots` gives."""
        found: dict[int, str] = {}
        for label, reason in self._fixed.items():
            found.setdefault(self._root(label), reason)
        return found

    def _root(self, label: int) -> int:
        parents = self._parents
        while parents[label] != label:
            parents[label] = parents[parents[label]]
            label = parents[label]
        return label


def reshaped(
    axes: Axes, old: Sequence[int | None], new: Sequence[int | None], labels: ChannelLabels, fix: Callable[[Axis], None]
) -> Axes:
    """The axes of a tensor of shape ``old`` after a reshape to ``new``, in row-major order.

    An axis that is split into several goes into the one that leaves the most channels, in which whole slices go
    together. What a reshape mixes beyond that is handed to ``fix``.

    Example:
        >>> labels = ChannelLabels()
        >>> channels = labels.new(3)
        >>> reshaped((None, None, channels), (2, 2, 3), (2, 6), labels, print)
        (None, array([0, 1, 2, 0, 1, 2]))
    """
    result: list[Axis] = [None] * len(new)
    for rows, columns in _blocks(old, new):
        carried = [i for i in rows if axes[i] is not None]
        if not carried:
            continue
        sizes, out = [old[i] or 0 for i in rows], [new[i] or 0 for i in columns]
        labelled = axes[carried[0]]
        if len(carried) > 1 or labelled is None or 0 in (*sizes, *out):
            for i in carried:
                fix(axes[i])
            continue
        place = rows.index(carried[0])
        shape = [1] * len(rows)
        shape[place] = -1
        flat = np.broadcast_to(labelled.reshape(shape), sizes).reshape(out)
        along = [_along(flat, axis) for axis in range(len(out))]
        free = [axis for axis in range(len(out)) if along[axis] is not None]
        if free:
            result[columns[free[0]]] = along[free[0]]
        elif out:
            axis = int(np.argmax(out))
            result[columns[axis]] = labels.unite_along(flat, axis)
    return tuple(result)


def _along(flat: Labels, axis: int) -> Axis:
    """The labels along an axis, if they are the same everywhere else."""
    rows = np.moveaxis(flat, axis, 0).reshape(flat.shape[axis], -1)
    return rows[:, 0] if (rows == rows[:, :1]).all() and len(np.unique(rows[:, 0])) > 1 else None


def _blocks(old: Sequence[int | None], new: Sequence[int | None]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes of two shapes, from the right, that hold equally many elements."""
    blocks: list[tuple[list[int], list[int]]] = []
    i, j = len(old), len(new)
    while i or j:
        rows: list[int] = []
        columns: list[int] = []
        a = b = 1
        known = True
        while known and (i or j) and (not rows or not columns or a != b):
            if i and (not rows or not j or (columns and a <= b)):
                i -= 1
                rows.insert(0, i)
                size = old[i]
                a *= size or 1
            else:
                j -= 1
                columns.insert(0, j)
                size = new[j]
                b *= size or 1
            known = size is not None
        if not known:  # what lies before an open size cannot be told apart
            rows, columns, i, j = [*range(i), *rows], [*range(j), *columns], 0, 0
        blocks.append((rows, columns))
    return blocks
