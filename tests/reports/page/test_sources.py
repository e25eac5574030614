"""Footnotes: what is shared stands once."""

from __future__ import annotations

from tests.reports.examples import SOURCES, full, partial
from tfgreen.reports.metric import Metric
from tfgreen.reports.page.sources import number_of, shared, sources


def test_equal_texts_stand_once_and_others_by_name():
    found = {source.label: source for source in sources([full(), partial()], Metric())}
    assert (found["size"].text, found["size"].rows) == ("counted: bytes of the file", ())
    assert found["size"].number == number_of("size_bytes") == 2
    energy = found["energy per inference"]
    assert energy.rows == (("float32", SOURCES["energy"]), ("pruned-int8", "none: no benchmark was asked for"))


def test_texts_that_differ_in_numbers_only_share_their_words():
    how = "estimated: {} runs, {} CPU-seconds x 4 W (servers: 1.69 to 8.58 W)"
    found = sources([full(n, sources={**SOURCES, "energy": how.format(*x)}) for n, x in
                     {"a": (49217, 0.17), "b": (150_113, 0.17), "c": (7, 0.2)}.items()], Metric())  # fmt: skip
    energy = next(source for source in found if source.label == "energy per inference")
    assert energy.text == how.format("[a]", "[b]")
    assert energy.rows == (("a", "[a] 49217, [b] 0.17"), ("b", "[a] 150113, [b] 0.17"), ("c", "[a] 7, [b] 0.2"))


def test_texts_with_other_words_stay_whole():
    texts = {"a": "measured: 5 runs", "b": "measured: 5 windows"}
    assert shared(texts) == ("", tuple(texts.items()))
