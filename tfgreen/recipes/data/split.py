"""Split: one part of the data, in memory, as batches, or as files that are read when they are needed."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tfgreen.checks import check_integer
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.recipes.data.checks import check_arrays, check_weights, named_leaves, stratum
from tfgreen.structure import leaf_names, name_leaves, pack
from tfgreen.typing import Arrays, PlainDict, Shape

if TYPE_CHECKING:
    import tensorflow as tf

BATCH_SIZE = 32


class Listing(Protocol):
    """Samples in files, of which it is known how many there are before they are read."""

    @property
    def labels(self) -> np.ndarray | None:
        """The class of each sample, or None."""

    @property
    def labelled(self) -> bool:
        """Whether the samples have targets."""

    def __len__(self) -> int: ...

    def pick(self, rows: np.ndarray) -> Listing:
        """The samples of these numbers, in this order."""

    def batches(self, batch_size: int, shuffle: bool) -> tf.data.Dataset:
        """Batches ``(x, y)``, ``(x, y, sample_weight)`` or, without targets, ``x``; shuffled anew in each pass."""

    def contents(self) -> Iterator[tuple[str, str | None]]:
        """What the samples are, in words, each with the file it is about, or None."""


class Split:
    """One part of the data: samples, targets where there are any, and weights where there are any.

    Args:
        x: An array of shape ``(samples, ...)``, a dict or a list of them, or a ``tf.data.Dataset`` of batches: ``(x,
            y)``, ``(x, y, sample_weight)`` or ``x`` alone.
        y: Targets in the same forms; None without targets, or where ``x`` is a dataset.
        sample_weight: An array of shape ``(samples,)``, or None.
        name: "train", "validation" or "test".
        source: Where the samples are from.

    Raises:
        TypeError, ValueError: An array is of another type, empty or not finite, the lengths differ, or the dataset
            never ends or is not batched.

    Example:
        >>> import numpy as np, tfgreen as tg
        >>> split = tg.Split(np.arange(10.0), np.arange(10) % 2, name="test")
        >>> split
        <Split test: 10 samples, arrays>
        >>> split.samples(4).tolist(), sorted(split.evaluate_arguments())
        ([0.0, 3.0, 6.0, 9.0], ['x', 'y'])
    """

    def __init__(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, name: str = "train", source: str = "arrays"
    ) -> None:
        self.name, self.source = name, source
        self.y, self.sample_weight = y, sample_weight
        self._x = x
        self._listing: Listing | None = x if hasattr(x, "pick") else None
        if self._listing is not None:
            return
        if not self.in_batches:
            count = check_arrays(f"x_{name}", x)
            if y is not None:
                check_arrays(f"y_{name}", y, count)
            if sample_weight is not None:
                check_weights(f"sample_weight_{name}", sample_weight, count)
        else:
            self._check_dataset()

    def __repr__(self) -> str:
        count = "an unknown number of" if self.count is None else f"{self.count:,}"
        return f"<Split {self.name}: {count} samples, {self.source}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self)[1:-1])}</p>"

    def to_dict(self) -> PlainDict:
        """Name, size and source, as plain values."""
        return {"name": self.name, "samples": self.count, "source": self.source}

    @property
    def x(self) -> Any:
        """The samples: arrays as they were given, or a ``tf.data.Dataset`` of batches in the order of the files."""
        return self._x if self._listing is None else self._listing.batches(BATCH_SIZE, False)

    @property
    def in_batches(self) -> bool:
        """Whether the samples are a ``tf.data.Dataset`` of batches, which hold the targets too."""
        return self._listing is not None or hasattr(self._x, "element_spec")

    @property
    def in_files(self) -> bool:
        """Whether the samples are in files that are read when they are needed."""
        return self._listing is not None

    @property
    def count(self) -> int | None:
        """How many samples there are, None where a dataset does not say."""
        if self._listing is not None:
            return len(self._listing)
        if not self.in_batches:
            return len(next(iter(named_leaves(self._x).values())))
        batches, sizes = int(self._x.cardinality()), {shape[0] for shape in self._dataset_shapes().values() if shape}
        size = sizes.pop() if len(sizes) == 1 else None
        return batches * size if batches >= 0 and size is not None else None

    @property
    def can_be_drawn_from(self) -> bool:
        """Whether single samples can be taken out: not of a dataset, whose order may change from pass to pass."""
        return self._listing is not None or not self.in_batches

    @property
    def lacks_image_size(self) -> bool:
        """Whether the samples are images in files that cannot be read before :meth:`with_image_size`."""
        return getattr(self._listing, "size", self) is None

    @property
    def classes(self) -> np.ndarray | None:
        """The class of each sample where targets are one integer each, or one-hot; otherwise None."""
        return self._listing.labels if self._listing is not None else stratum(self.y)

    @property
    def has_targets(self) -> bool:
        """Whether the samples have targets."""
        if self._listing is not None:
            return self._listing.labelled
        return isinstance(self._x.element_spec, tuple) if self.in_batches else self.y is not None

    def named(self, name: str, source: str) -> Split:
        """The same samples under another name."""
        return Split(self._x, self.y, self.sample_weight, name=name, source=source)

    def pick(self, rows: np.ndarray, name: str, source: str) -> Split:
        """The samples of these numbers as a split of their own."""
        if self._listing is not None:
            return Split(self._listing.pick(rows), name=name, source=source)
        parts = [None if part is None else _rows(part, rows) for part in (self._x, self.y, self.sample_weight)]
        return Split(*parts, name=name, source=source)

    def file_contents(self) -> Iterator[tuple[str, str | None]]:
        """What tells the samples of files from others: words, each with the path of the file it is about, or None."""
        return self._listing.contents() if self._listing is not None else iter(())

    def few(self, count: int) -> Split:
        """At most ``count`` samples with their targets, evenly spread; of a dataset its first batch."""
        if self.can_be_drawn_from:
            return self.pick(evenly(self.count or 0, count), self.name, self.source)
        return Split(self._x.take(1), name=self.name, source=self.source)

    def with_image_size(self, height: int, width: int) -> Split:
        """The same images, resized to other sides; a ValueError for other samples."""
        if not hasattr(self._listing, "size"):
            raise invalid_state(f"The {self.name} split ({self.source}) is no folder of images.", "Resize its arrays.")
        return Split(dataclasses.replace(self._x, size=(height, width)), name=self.name, source=self.source)

    def fit_arguments(self, batch_size: int = BATCH_SIZE, shuffle: bool = True) -> PlainDict:
        """What ``keras.Model.fit`` takes: arrays with a batch size, or batches, which Keras does not shuffle.

        Files are shuffled here, anew in each epoch; a dataset of the user's stays as it is.

        Raises:
            ValueError: The samples have no targets.
        """
        check_integer("batch_size", batch_size, minimum=1)
        self._check_targets("To train on it,")
        if self._listing is not None:
            return {"x": self._listing.batches(batch_size, shuffle), "shuffle": False}
        if self.in_batches:
            return {"x": self._x, "shuffle": False}
        weights = {} if self.sample_weight is None else {"sample_weight": self.sample_weight}
        return {"x": self._x, "y": self.y, **weights, "batch_size": batch_size, "shuffle": shuffle}

    def validation_data(self, batch_size: int = BATCH_SIZE) -> Any:
        """What ``keras.Model.fit`` takes as ``validation_data``: a tuple of arrays, or batches."""
        self._check_targets("To validate on it,")
        if self._listing is not None:
            return self._listing.batches(batch_size, False)
        if self.in_batches:
            return self._x
        return (self._x, self.y) if self.sample_weight is None else (self._x, self.y, self.sample_weight)

    def evaluate_arguments(self) -> PlainDict:
        """What ``lite.evaluate`` takes besides ``metrics``, and ``keras.Model.evaluate``."""
        self._check_targets("To evaluate on it,")
        return {"x": self.x} if self.in_batches else {"x": self._x, "y": self.y}

    def samples(self, count: int) -> Arrays:
        """At most ``count`` samples without targets, as arrays, evenly spread: sorted data still gives all classes.

        Batches are read once, and no more of them is held than twice as many samples.
        """
        check_integer("count", count, minimum=1)
        if self._listing is not None:
            total = len(self._listing)
            return _spread(self._listing.pick(evenly(total, count)).batches(BATCH_SIZE, False), count, self.name)
        if self.in_batches:
            return _spread(self._x, count, self.name)
        return spread(self._x, count)

    def shapes(self) -> dict[str, dict[str, Shape | None]]:
        """The shape of each input ("x") and target ("y") without samples, by name; None where it is not known."""
        if not self.in_batches:
            parts = {"x": self._x, "y": {} if self.y is None else self.y}
            return {side: {k: a.shape[1:] for k, a in named_leaves(part).items()} for side, part in parts.items()}
        spec = self.x.element_spec
        parts = dict(zip("xy", spec)) if isinstance(spec, tuple) else {"x": spec, "y": {}}
        return {
            side: {name: None if leaf.shape.rank is None else tuple(leaf.shape[1:]) for name, leaf in leaves.items()}
            for side, leaves in ((side, named_leaves(part)) for side, part in parts.items())
        }

    def _check_targets(self, purpose: str) -> None:
        if not self.has_targets:
            raise invalid_state(f"The {self.name} split has no targets ({self.source}).", f"{purpose} pass y as well.")

    def _dataset_shapes(self) -> dict[str, Shape | None]:
        leaves = named_leaves(self._x.element_spec)
        return {name: None if leaf.shape.rank is None else tuple(leaf.shape) for name, leaf in leaves.items()}

    def _check_dataset(self) -> None:
        if self.y is not None or self.sample_weight is not None:
            raise invalid_state(f"x_{self.name} is a dataset, and y or sample_weight came too.", "Put them into it.")
        spec = self._x.element_spec
        if isinstance(spec, tuple) and len(spec) not in (2, 3):
            expected = "batches of (x, y), (x, y, sample_weight) or x"
            raise invalid_value(f"x_{self.name}", expected=expected, received=f"tuples of {len(spec)}")
        if int(self._x.cardinality()) == -1:
            raise invalid_state(f"x_{self.name} never ends.", "Leave repeat() out, or pass dataset.take(100).")
        if () in self._dataset_shapes().values():
            fix = "Batch it: dataset.batch(32)."
            raise invalid_value(f"x_{self.name}", expected="a dataset of batches", received="single samples", fix=fix)


def evenly(total: int, count: int) -> np.ndarray:
    """The numbers of at most ``count`` of ``total`` samples, evenly spread, first and last among them."""
    return np.arange(total) if total <= count else np.linspace(0, total - 1, count).astype(int)


def spread(arrays: Any, count: int) -> Any:
    """At most ``count`` samples of arrays in a dict or a list, or of one alone, evenly spread: all classes, if sorted.

    Example:
        >>> spread({"a": np.arange(101)}, 3)["a"].tolist()
        [0, 50, 100]
    """
    return _rows(arrays, evenly(len(next(iter(named_leaves(arrays).values()))), count))


def _rows(arrays: Any, rows: np.ndarray) -> Any:
    if isinstance(arrays, dict):
        return {name: _rows(part, rows) for name, part in arrays.items()}
    if isinstance(arrays, (list, tuple)):
        return type(arrays)(_rows(part, rows) for part in arrays)
    return arrays[rows]


def _spread(batches: Iterable[Any], count: int, name: str) -> Arrays:
    """Samples of batches, evenly spread: every ``step``-th, where the step doubles as there are more of them."""
    structure, kept, step, seen = None, list[tuple[int, list[np.ndarray]]](), 1, 0
    for batch in batches:
        structure, leaves = name_leaves(batch[0] if isinstance(batch, tuple) else batch, lambda _, index: str(index))
        arrays = [np.asarray(leaf) for leaf in leaves]
        for row in range(-seen % step, len(arrays[0]), step):
            kept.append((seen + row, [array[row] for array in arrays]))
        seen += len(arrays[0])
        while len(kept) > 2 * count:
            step *= 2
            kept = [(place, leaves) for place, leaves in kept if place % step == 0]
    if not kept:
        raise invalid_value(f"x_{name}", expected="at least one sample", received=0)
    chosen = [kept[place][1] for place in evenly(len(kept), count)]
    stacked = [np.array(column, column[0].dtype if hasattr(column[0], "dtype") else object) for column in zip(*chosen)]
    return pack(structure, dict(zip(leaf_names(structure), stacked)))
