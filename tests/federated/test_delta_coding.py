"""The largest places: as many as were asked for, ties included, and none of zero."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.federated.delta_coding import largest_places


@given(st.lists(st.sampled_from((0.0, 0.5, 1.0, 2.0)), min_size=1, max_size=40), st.integers(1, 50))
def test_the_largest_are_taken_and_of_equal_ones_the_first(values, count):
    magnitude = np.array(values, "float32")
    expected = [i for i in sorted(range(len(values)), key=lambda i: (-values[i], i))[:count] if values[i]]
    assert largest_places(magnitude, count).tolist() == sorted(expected)
