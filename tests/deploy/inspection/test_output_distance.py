"""output_distance: what is far of numbers and of classes, whatever their units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.deploy.inspection.output_distance import distance, integer_distance


@given(st.floats(0.01, 100), st.floats(-3, 3))
def test_the_distance_does_not_depend_on_units(unit, shift):
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(8, 4)) + shift
    got = expected + rng.normal(size=(8, 4)) * 0.1
    one, other = distance(expected, got, 0.02), distance(expected * unit, got * unit, 0.02 * unit)
    assert one.scales == pytest.approx(other.scales) and one.sqnr_db == pytest.approx(other.sqnr_db)


def test_what_is_far():
    expected = np.linspace(-1, 1, 64).reshape(8, 8)
    assert not distance(expected, expected, None).is_far
    assert not distance(expected, expected + 0.004, None).is_far
    assert distance(expected, np.zeros((8, 8)), None).constant
    assert distance(expected, -expected, None).is_far
    clipped = expected.copy()
    clipped[0, 0] = -500.0  # one outlier, which a percentile leaves out
    assert not distance(clipped, expected, 1 / 127).is_far
    assert distance(expected, np.zeros((8, 8)), 2.0).is_far  # a range so wide that nothing is left
    assert distance(expected, np.where(expected > 0.9, np.nan, expected), None).is_far
    constant = np.full((8, 8), 2.0)
    assert not distance(constant, constant + 0.004, 0.01).is_far
    assert distance(constant, constant - 1.0, 0.01).is_far  # a constant that is another one
    small = expected * 1e-4  # rounding of a small output within a wide range is no fault
    assert not distance(small, np.zeros((8, 8)), 1 / 256).is_far


def test_what_is_far_of_integers():
    classes, some = np.arange(100) % 10, np.arange(100) < 20
    assert not integer_distance(classes, np.where(np.arange(100) < 9, 0, classes), 0.9).is_far
    assert str(integer_distance(classes, np.where(some, 99, classes), 0.9)) == "80% of its integers are equal"
    assert integer_distance(classes, np.where(some, 99, classes), 0.9).is_far
    rare = np.arange(1000) < 20
    assert integer_distance(rare, np.zeros(1000, bool), 0.9).is_far  # 98 % are equal
    assert not integer_distance(rare, np.arange(1000) < 15, 0.9).is_far
    assert not integer_distance(np.zeros(8, int), np.zeros(8, int), 0.9).is_far


def test_a_few_numbers_that_jump_are_no_fault_and_many_are():
    expected = np.where(np.random.default_rng(0).random((8, 50)) < 0.5, 1.0, -1.0)
    for count, is_far in ((1, False), (4, True)):
        got = expected.copy()
        got[:, :count] *= -1
        assert distance(expected, got, 1 / 127).is_far == is_far


def test_numbers_that_are_infinite_in_the_file_are_far_and_no_error_of_mathematics():
    expected = np.linspace(-3, 3, 24).reshape(8, 3)
    for got in (np.where(expected > 1, np.inf, expected), np.full_like(expected, -np.inf)):
        assert distance(expected, got, 0.02).is_far
        assert distance(np.where(expected > 1, np.inf, expected), got, 0.02).is_far
