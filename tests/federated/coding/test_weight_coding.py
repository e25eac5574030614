"""One weight of an update: which mode it takes, and the error that names it."""

from __future__ import annotations

import numpy as np
import pytest

import tfgreen as tg
from tfgreen.federated.coding import weight_coding
from tfgreen.federated.coding.update_bytes import Reader, Writer
from tfgreen.federated.coding.weight_coding import CODEBOOK, DELTA, RAW, SAME

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(20, 30)).astype("float32")
COUNTS = RNG.integers(0, 10**6, (20, 30))


@pytest.mark.parametrize(
    "before, after, mode",
    [
        (NORMAL, NORMAL, SAME),
        (NORMAL, NORMAL * 2, DELTA),
        (None, NORMAL, RAW),
        (NORMAL[0, :4], NORMAL[1, :4], RAW),
        (COUNTS, COUNTS + 1, RAW),
        (COUNTS, COUNTS % 7, CODEBOOK),
        (NORMAL, np.sign(NORMAL), CODEBOOK),
        (None, NORMAL > 0, CODEBOOK),
    ],
)
def test_each_kind_of_weight_takes_its_mode(before, after, mode):
    writer = Writer()
    weight_coding.encode_weight(writer, before, after, None, tg.UpdateCodec(), "w")
    assert writer.heads[0] == mode
    known = np.zeros_like(after) if before is None else before
    found = weight_coding.decode_weight(Reader(writer.joined()), known, "w")
    np.testing.assert_allclose(found, after, atol=0.02 if mode == DELTA else 0)
    assert len(writer.joined()) <= weight_coding.most_bytes(after)


def test_what_is_left_of_an_earlier_update_is_sent_for_an_unchanged_weight():
    writer = Writer()
    rest = np.full_like(NORMAL, 0.5)
    left = weight_coding.encode_weight(writer, NORMAL, NORMAL, rest, tg.UpdateCodec(), "w")
    found = weight_coding.decode_weight(Reader(writer.joined()), NORMAL, "w")
    np.testing.assert_allclose(found, NORMAL + 0.5, atol=1e-6)
    assert np.abs(left).max() < 1e-6


def test_an_unknown_mode_is_refused():
    writer = Writer()
    writer.weight(9, 0, 11, (2,))
    with pytest.raises(ValueError, match="w: expected an update .* received mode 9"):
        weight_coding.decode_weight(Reader(writer.joined()), np.zeros(2, "float32"), "w")
