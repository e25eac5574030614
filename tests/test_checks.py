"""checks: every argument check accepts what it says and names what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.checks import check_bool, check_instance, check_integer, check_number, check_option, is_option


@given(st.integers(), st.integers(-5, 5), st.integers(-5, 5))
def test_integers_pass_exactly_within_their_bounds(value, minimum, maximum):
    def passes() -> bool:
        try:
            check_integer("count", value, minimum=minimum, maximum=maximum)
        except ValueError:
            return False
        return True

    assert passes() == (minimum <= value <= maximum)


@given(st.floats(), st.floats(-5, 5), st.floats(-5, 5))
def test_numbers_pass_exactly_within_their_bounds(value, low, high):
    def passes(**bounds: float) -> bool:
        try:
            check_number("rate", value, **bounds)
        except ValueError:
            return False
        return True

    assert passes(minimum=low, maximum=high) == (low <= value <= high)
    assert passes(above=low, below=high) == (low < value < high)
    assert passes() == np.isfinite(value)


def test_numpy_numbers_are_numbers_and_none_is_only_where_it_is_optional():
    check_integer("count", np.int64(3))
    check_number("rate", np.float32(0.5))
    check_integer("count", None, optional=True)
    check_number("rate", None, optional=True)
    with pytest.raises(TypeError, match="count: expected an integer, received NoneType"):
        check_integer("count", None)


@pytest.mark.parametrize("value", [True, "3", [3], 3j])
def test_what_is_no_number_is_a_type_error(value):
    with pytest.raises(TypeError, match="expected an integer >= 1 or None"):
        check_integer("count", value, minimum=1, optional=True)
    with pytest.raises(TypeError, match="expected a number > 0 and <= 1"):
        check_number("rate", value, above=0, maximum=1)


def test_a_fraction_for_an_integer_is_a_wrong_value():
    with pytest.raises(ValueError, match="count: expected an integer >= 1, received 2.5"):
        check_integer("count", 2.5, minimum=1)


def test_options_bools_and_instances():
    check_option("mode", "int8", ("float32", "int8"))
    check_bool("strict", False)
    check_instance("config", 3, int, "an int")
    with pytest.raises(ValueError, match="mode: expected 'float32' or 'int8', received 'int4'"):
        check_option("mode", "int4", ("float32", "int8"))
    with pytest.raises(ValueError, match="bits: expected 8 or 16, received 8.0"):
        check_option("bits", 8.0, (8, 16))
    with pytest.raises(TypeError, match="strict: expected True or False, received int"):
        check_bool("strict", 1)
    with pytest.raises(TypeError, match="config: expected a tg.PruneConfig, received str"):
        check_instance("config", "prune", (int, float), "a tg.PruneConfig")


def test_an_array_is_no_option():
    assert is_option("auto", ("auto", True)) and is_option(True, ("auto", True))
    assert not is_option(1, ("auto", True)) and not is_option(np.ones(2), ("auto", True, 1.0))
