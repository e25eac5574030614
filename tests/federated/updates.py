"""Weights of every dtype and shape, before and after a training, for the tests of updates."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

FLOATS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
OTHERS = (
    np.bool_, np.int8, np.uint8, np.int32, np.int64, np.uint64, np.complex64, np.complex128, ml_dtypes.float8_e4m3fn,
)
SHAPES = ((), (0,), (1,), (7,), (3, 0, 2), (3, 3, 4, 8), (64, 33), (1, 1, 1, 1, 500))


def weight(rng: np.random.Generator, dtype: type, shape: tuple[int, ...], zeros: float, values: int) -> np.ndarray:
    """Normal numbers, of which a share are zero, rounded to few different ones where ``values`` is not 0."""
    drawn = rng.normal(size=shape) * 3
    if values:
        drawn = np.floor(drawn * values / 20)
    return np.asarray((drawn * (rng.random(shape) >= zeros)).astype(dtype))


@st.composite
def trainings(draw: st.DrawFn, dtypes: tuple[type, ...] = FLOATS + OTHERS) -> tuple[list, list]:
    """Weights before and after: changed in every place, in a few or in none, pruned further, or not at all alike."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    before, after = [], []
    for _ in range(draw(st.integers(1, 4))):
        dtype, shape = draw(st.sampled_from(dtypes)), draw(st.sampled_from(SHAPES))
        zeros, values = draw(st.sampled_from((0, 0.8, 1))), draw(st.sampled_from((0, 0, 16)))
        old = weight(rng, dtype, shape, zeros, values)
        kind = draw(st.sampled_from(("same", "few", "all", "pruned", "other")))
        new = weight(rng, dtype, shape, zeros, values)
        if kind != "other":
            share = {"same": 0, "few": 0.05, "all": 1, "pruned": 1}[kind]
            new = np.where((rng.random(shape) < share) & (old != 0), new, old)
        if kind == "pruned":
            new = np.where(rng.random(shape) < 0.3, np.zeros((), dtype), new)
        before.append(old)
        after.append(np.asarray(new, dtype=dtype))
    return before, after
