"""Splits: train, validation and test of any task; what was not given is drawn from train."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from typing_extensions import Self, Unpack

from tfgreen.checks import check_instance
from tfgreen.errors import invalid_state
from tfgreen.recipes.data.checks import check_alike
from tfgreen.recipes.data.draw import SplitConfig, SplitOptions, draw
from tfgreen.recipes.data.split import Split
from tfgreen.tables import html_table
from tfgreen.training.image_listing import check_image_size
from tfgreen.typing import PlainDict

NAMES = ("train", "validation", "test")


class Splits:
    """Train, validation and test of any task, kept apart; see :class:`tg.Data`, which reads them."""

    def __init__(
        self,
        train: Split | None,
        validation: Split | None = None,
        test: Split | None = None,
        *,
        source: str = "arrays",
        how: str = "Pass it as {name}.",
        class_names: Sequence[str] = (),
        **options: Unpack[SplitOptions],
    ) -> None:
        config = SplitConfig(**options)
        self.source, self.class_names, self._how = source, tuple(class_names), how
        given = {"train": train, "validation": validation, "test": test}
        for name, split in given.items():
            if split is not None or name == "train":
                check_instance(name, split, Split, "a tg.Split")
        splits = {name: split for name, split in given.items() if split is not None}
        check_alike({name: split.shapes() for name, split in splits.items() if not split.in_files})
        self._splits = {name: split.named(name, split.source) for name, split in splits.items()}
        for name in ("test", "validation"):
            share = getattr(config, f"{name}_share")
            if name not in splits and share and self.train.can_be_drawn_from:
                self._draw(name, share, config.seed)

    def __repr__(self) -> str:
        counts = [f"{name} {'?' if s.count is None else s.count}" for name, s in self.splits.items()]
        return f"<{type(self).__name__} {self.source}: {', '.join(counts)}>"

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that there are, by name, in the order train, validation, test."""
        return {name: self._splits[name] for name in NAMES if name in self._splits}

    @property
    def train(self) -> Split:
        """The training split."""
        return self._splits["train"]

    @property
    def validation(self) -> Split:
        """The validation split; a ValueError that says what to pass if there is none."""
        return self._get("validation")

    @property
    def test(self) -> Split:
        """The test split; a ValueError that says what to pass if there is none."""
        return self._get("test")

    def with_image_size(self, height: int, width: int) -> Self:
        """The same data, in which images of a folder are resized to other sides, in pixels.

        Raises:
            ValueError: The data is no folder of images, or a side is less than 1.
        """
        check_image_size((height, width))
        resized = copy.copy(self)
        resized._splits = {name: split.with_image_size(height, width) for name, split in self._splits.items()}
        return resized

    def _repr_html_(self) -> str:
        counts = {name: split.count for name, split in self.splits.items()}
        rows = [(k, "unknown" if n is None else f"{n:,}", self.splits[k].source) for k, n in counts.items()]
        return html_table(("split", "samples", "source"), rows, self.source, left=(0, 2))

    def to_dict(self) -> PlainDict:
        """Source and size of each split, for a report."""
        splits = {name: {"samples": split.count, "source": split.source} for name, split in self.splits.items()}
        return {"source": self.source, "splits": splits}

    def _get(self, name: str) -> Split:
        if name not in self._splits:
            fix = self._how.format(name=name)
            if self.train.can_be_drawn_from:
                fix += f" Or pass {name}_share=0.1 to draw it from train."
            else:
                fix += " It is not drawn from a tf.data.Dataset, whose order may change from pass to pass."
            raise invalid_state(f"The data ({self.source}) has no {name} split.", fix)
        return self._splits[name]

    def _draw(self, name: str, share: float, seed: int) -> None:
        train = self._splits["train"]
        drawn, by_class = draw(train.count or 0, share, seed, train.classes)
        left = np.setdiff1d(np.arange(train.count or 0), drawn)
        how = f"{share:.0%} of the training samples, drawn {'by class ' if by_class else ''}with seed {seed}"
        self._splits[name] = train.pick(drawn, name, f"{self.source}: {how}")
        rest = f"{train.source}, without those drawn for {name}"
        self._splits["train"] = train.pick(left, "train", rest)
