"""LayerRow: what became of one layer; read from a saved report without Keras."""

from __future__ import annotations

import dataclasses

from tfgreen.checks import check_number
from tfgreen.typing import PlainDict


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer; None for what is not known, or not so few clusters that they mean anything.

    Attributes:
        path: Path of the layer in the Keras model.
        macs, macs_before: Multiply-accumulates of one sample.
        channels, channels_before: Channels of its output.
        sparsity: Share of zeros among its weights in the file.
        clusters: Different values of its weights in the file, 0 not counted.
        bits: What the file spends on each of its weights.
        sqnr_db: The power of its output over that of the error in the file, in decibels: more is better.
        reason: Why it was left as it was, or "".
    """

    path: str
    macs: int | None = None
    macs_before: int | None = None
    channels: int | None = None
    channels_before: int | None = None
    sparsity: float | None = None
    clusters: int | None = None
    bits: int | None = None
    sqnr_db: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self)[1:-1]:
            check_number(f"layer '{self.path}', {field.name}", getattr(self, field.name), optional=True)

    def to_dict(self) -> PlainDict:
        """Plain values."""
        return dataclasses.asdict(self)
