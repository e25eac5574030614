from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.errors import InvalidValueError
from tfgreen.structure import leaf_names, match, name_leaves, pack

trees = st.recursive(
    st.integers(),
    lambda inner: st.lists(inner, min_size=1, max_size=3)
    | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, min_size=1, max_size=3),
    max_leaves=8,
)


@given(trees)
def test_names_are_unique_and_lead_back_to_the_tree(tree):
    structure, leaves = name_leaves(tree, lambda leaf, index: f"leaf_{index}")
    names = leaf_names(structure)
    assert len(set(names)) == len(names) == len(leaves)
    assert pack(structure, dict(zip(names, leaves))) == tree
    assert match(structure, tree, "x") == dict(zip(names, leaves))


def test_a_flat_dict_and_a_bare_value_are_accepted():
    assert match(["left", "right"], {"right": 2, "left": 1}, "x") == {"left": 1, "right": 2}
    assert match(["only"], 3, "x") == match("only", 3, "x") == match({"a": "only"}, 3, "x") == {"only": 3}


@pytest.mark.parametrize(
    "structure, value, message",
    [
        (["left", "right"], [1], r"x: expected a list of 2 arrays, or a dict by name, of \['left', 'right'\]"),
        (["left", "right"], 1, "received int"),
        ({"a": "a", "b": "b"}, {"a": 1}, r"expected a dict with keys \['a', 'b'\], received \['a'\]"),
        ({"a": "a", "b": "b"}, [1, 2], "received list"),
        ("image", {"picture": 1}, r"expected one array \('image'\), received \['picture'\]"),
    ],
)
def test_a_mismatch_names_what_is_expected(structure, value, message):
    with pytest.raises(InvalidValueError, match=message):
        match(structure, value, "x")


def test_two_leaves_of_one_name_are_told_apart():
    assert name_leaves([1, 2, 3], lambda leaf, index: "y")[0] == ["y", "y_1", "y_2"]
