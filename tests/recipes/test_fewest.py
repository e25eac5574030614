"""fewest: what is needed is found exactly, in few trials."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.recipes.fewest import fewest


def search(count, needed):
    tried = []

    def enough(chosen):
        tried.append(list(chosen))
        return set(needed) <= set(chosen)

    return fewest(count, enough), tried


@pytest.mark.parametrize("needed", [{0}, {2}, {0, 5}, {3, 4, 11}, {62}])
def test_it_finds_exactly_what_is_needed_in_few_trials(needed):
    found, tried = search(63, needed)
    assert needed <= set(found)
    if max(needed) < 9:
        assert set(found) == needed
    assert len(tried) <= 2 * 6 + 8 + 1


def test_what_is_never_enough():
    assert search(3, {3}) == (None, [[0], [0, 1], [0, 1, 2]])
    assert search(0, set()) == (None, []) and search(-1, set()) == (None, [])


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_for_any_needs_the_result_suffices_and_none_of_its_last_can_go(case):
    count, needed = case
    found, tried = search(count, needed)
    last = max(needed)
    assert needed <= set(found) <= set(range(last + 1)) and found == sorted(found)
    assert set(found) & set(range(max(0, last - 8), last + 1)) == needed & set(range(max(0, last - 8), last + 1))
    assert [chosen for chosen in tried if needed <= set(chosen)][-1] == found  # the last that was enough
    assert len(tried) <= 2 * count.bit_length() + 8 + 1
