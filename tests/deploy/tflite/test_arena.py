from __future__ import annotations

import itertools

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfgreen as tg
from tests.deploy import cases
from tests.zoo import ZOO
from tfgreen.deploy.tflite.arena import alive_bytes, plan
from tfgreen.errors import InvalidValueError

BUFFERS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5), st.integers(0, 5)), max_size=5)


def _split(buffers: list[tuple[int, int, int]]) -> tuple[list[int], list[int], list[int]]:
    return [b[0] for b in buffers], [min(b[1:]) for b in buffers], [max(b[1:]) for b in buffers]


def _best(sizes: list[int], starts: list[int], ends: list[int]) -> int:
    """The least memory of any layout: to put each as low as it goes is best in some order."""
    best = sum(sizes)
    for order in itertools.permutations(range(len(sizes))):
        placed: dict[int, int] = {}
        for i in order:
            beside = [j for j in placed if starts[j] <= ends[i] and starts[i] <= ends[j]]
            placed[i] = next(
                offset
                for offset in sorted({0} | {placed[j] + sizes[j] for j in beside})
                if all(offset + sizes[i] <= placed[j] or placed[j] + sizes[j] <= offset for j in beside)
            )
        best = min(best, max((placed[i] + sizes[i] for i in order), default=0))
    return best


@given(BUFFERS)
def test_no_two_buffers_alive_at_once_overlap_and_no_layout_beats_the_bound(buffers):
    sizes, starts, ends = _split(buffers)
    offsets = plan(sizes, starts, ends)
    for i, j in itertools.combinations(range(len(sizes)), 2):
        if starts[i] <= ends[j] and starts[j] <= ends[i]:
            assert offsets[i] + sizes[i] <= offsets[j] or offsets[j] + sizes[j] <= offsets[i]
    total = max((offset + size for offset, size in zip(offsets, sizes)), default=0)
    assert max(alive_bytes(sizes, starts, ends), default=0) <= _best(sizes, starts, ends) <= total <= sum(sizes)


def test_a_chain_needs_two_neighbours_and_fills_gaps():
    assert plan([64, 32, 48, 16], [0, 1, 2, 3], [1, 2, 3, 4]) == [0, 64, 0, 48]
    # the last two fit between the first two, into the space that the middle one has left
    assert plan([10, 9, 8, 4, 3], [0, 0, 0, 1, 1], [9, 0, 9, 9, 9]) == [0, 10, 19, 10, 14]
    assert plan([], [], []) == []


def test_the_estimate_is_what_counting_by_hand_gives():
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", name="conv")(inputs)
    x = keras.layers.Add(name="sum")([x, keras.layers.Conv2D(3, 1, name="beside")(inputs)])
    lite = tg.convert(keras.Model(inputs, x))
    assert [row.operator for row in lite.audit.operators] == ["CONV_2D", "CONV_2D", "ADD"]
    image, features = 6 * 6 * 2 * 4, 6 * 6 * 3 * 4  # both multiples of 16
    found = lite.arena_bytes
    assert found.lower_bound_bytes == max(image + 2 * features, 3 * features) == found.planned_bytes
    assert found.peak == f"ADD of {lite.audit.operators[2].layers[-1]!r}" and "sum" in found.peak
    assert found.to_dict()["source"] == "estimated: tensors only"
    assert str(found).startswith(f"{found.planned_bytes:,} bytes for tensors") and "&#x27;" in found._repr_html_()


# "Arena allocation head" that the interpreter of tflite-micro 0.dev20261023182759 reports: int8, float32.
# A head of 5632 for "separable" in int8 is left out: 4096 of it are the scratch buffer of TRANSPOSE_CONV.
HEADS = {"residual": (768, 3072), "concat": (1536, 6144), "multi_io": (336, 1232), "batchnorm": (96, 384)}


@pytest.mark.parametrize("name", HEADS)
def test_the_plan_is_as_large_as_that_of_the_micro_interpreter(name):
    files = [cases.artifact(name, mode) for mode in ("int8-io", "float32")]
    assert tuple(lite.arena_bytes.planned_bytes for lite in files) == HEADS[name]


def test_a_model_without_operators_needs_its_input():
    inputs = keras.Input((8,))
    assert tg.convert(keras.Model(inputs, inputs)).arena_bytes.planned_bytes >= 32


@pytest.mark.parametrize("name", sorted(set(ZOO) - {"lstm"}))
def test_int8_tensors_take_less_than_float_ones(name):
    narrow, wide = (cases.artifact(name, mode).arena_bytes for mode in ("int8-io", "float32"))
    for found in (narrow, wide):
        assert 0 < found.lower_bound_bytes <= found.planned_bytes and found.planned_bytes % 16 == 0
    assert narrow.planned_bytes < wide.planned_bytes


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(InvalidValueError, match="a file with loops or branches is not known.*unroll=True"):
        cases.artifact("lstm", "float32").arena_bytes
    inputs = keras.Input((None, 4))
    lite = tg.convert(keras.Model(inputs, keras.layers.Dense(3)(inputs)))
    with pytest.raises(InvalidValueError, match=r"has the shape \[1, -1, 4\]: its size is open. Give every"):
        lite.arena_bytes
