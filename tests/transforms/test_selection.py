from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfgreen.transforms.selection import (
    erdos_renyi_kernel,
    keep_blocks,
    keep_largest,
    keep_largest_of_all,
    keep_m_by_n,
    kth_largest,
    nonzero_count,
)

weights = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=6),
    elements=st.floats(-4, 4, width=32).map(lambda v: round(v, 1)),  # coarse, so that ties are common
)
sparsities = st.floats(0, 1, exclude_max=True, width=32)


@given(weights, sparsities)
def test_the_kept_weights_are_as_many_as_promised_and_none_is_smaller_than_a_dropped_one(weight, sparsity):
    mask = keep_largest(np.abs(weight), sparsity)
    assert mask.shape == weight.shape and mask.dtype == bool
    assert mask.sum() == min(nonzero_count(weight.size, sparsity), weight.size)
    if not mask.all():
        assert np.abs(weight)[mask].min() >= np.abs(weight)[~mask].max()


@given(weights, sparsities)
def test_ties_are_broken_by_position(weight, sparsity):
    mask = keep_largest(np.abs(weight), sparsity).ravel()
    magnitude = np.abs(weight).ravel()
    for value in np.unique(magnitude):
        kept = mask[magnitude == value]
        assert not np.any(~kept[:-1] & kept[1:]), "a dropped weight stands before a kept one of the same magnitude"


def test_equal_weights_are_pruned_to_the_sparsity_asked_for_unlike_in_tfmot():
    assert keep_largest(np.ones((4, 5), "float32"), 0.5).mean() == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_cannot_be_ranked_are_an_error(bad):
    weight = np.arange(6, dtype="float32")
    weight[2] = bad
    with pytest.raises(ValueError, match="1 NaN or infinite"):
        keep_largest(weight, 0.5)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["normal", "few values", "mostly zero", "sorted", "constant", "one outlier"]),
    st.integers(20_000, 60_000),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 5),
)
def test_kth_largest_of_a_large_array_is_exact(kind, size, place, seed):
    rng = np.random.default_rng(seed)
    values = np.abs(rng.standard_normal(size, dtype=np.float32))
    if kind == "few values":
        values = np.round(values, 1)
    if kind == "mostly zero":
        values[rng.random(size) < 0.8] = 0
    if kind == "sorted":
        values.sort()
    if kind == "constant":
        values[:] = 2
    if kind == "one outlier":
        values[:] = 0
        values[7] = 1
    k = 1 + int(place * size)
    assert kth_largest(values, k) == np.sort(values)[size - k]


@given(st.lists(hnp.arrays(np.float32, (4, 3), elements=st.floats(0, 9, width=32)), min_size=1, max_size=4), sparsities)
def test_competing_arrays_keep_as_many_as_one_would_and_none_dies(scores, sparsity):
    before = [score.copy() for score in scores]
    masks = keep_largest_of_all(scores, sparsity)
    assert sum(int(mask.sum()) for mask in masks) == max(nonzero_count(12 * len(scores), sparsity), len(scores))
    assert all(mask.any() for mask in masks)
    for score, copy in zip(scores, before):
        np.testing.assert_array_equal(score, copy)


@given(hnp.arrays(np.float32, (5, 9), elements=st.floats(0, 9, width=32)), st.integers(1, 3), st.integers(2, 5))
def test_every_group_has_the_zeros_it_should(score, zeros, group):
    if zeros >= group:
        return
    mask = keep_m_by_n(score, zeros, group, axis=1)
    for start in range(0, 9, group):
        part, size = mask[:, start : start + group], min(group, 9 - start)
        assert (part.sum(axis=1) == min(group - zeros, size)).all()


def test_blocks_are_averaged_over_the_elements_they_have():
    scores = np.array([[1.0, 1.0, 1.5]])
    assert keep_blocks(scores, 0.5, (1, 2), "AVG").tolist() == [[False, False, True]]


kernel_shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 64), st.integers(1, 64))


@given(st.lists(kernel_shapes, min_size=1, max_size=6), sparsities)
def test_erdos_renyi_kernel_spends_the_budget_and_follows_its_formula(shapes, sparsity):
    shares = erdos_renyi_kernel(shapes, sparsity)
    sizes = np.array([math.prod(shape) for shape in shapes])
    kept = (1 - np.array(shares)) * sizes
    assert kept.sum() == pytest.approx((1 - sparsity) * sizes.sum(), rel=1e-6, abs=1e-6)
    assert all(0 <= share < 1 + 1e-9 for share in shares)
    sparse = [(sum(s) / math.prod(s), 1 - share) for s, share in zip(shapes, shares) if share > 1e-9]
    ratios = [density / raw for raw, density in sparse if density > 1e-9]
    assert not ratios or max(ratios) == pytest.approx(min(ratios), rel=1e-6)
