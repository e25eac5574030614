from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.deploy.inspection.output_errors import DEFAULT_LIMITS, VerifyLimits, compare
from tfgreen.deploy.verify import VerifyResult


def test_a_float_output_is_measured_in_255ths_of_its_range():
    expected = np.array([[0.0, 10.0], [2.0, 5.0]])
    result = compare("y", expected, expected + 1.0)
    assert result.scale == 10 / 255 and result.max_scales == pytest.approx(25.5)
    assert compare("y", np.full((3, 2), 4.0), np.full((3, 2), 4.0)).max_scales == 0  # a constant output has no range
    same = np.full((3, 2), 4.0, "float32")
    assert compare("y", same, np.nextafter(same, 5)).max_scales < 1e-4  # nor do its last bits make one
    assert compare("y", np.nextafter(same, [4, 5]), same).max_scales < 1e-4
    assert compare("y", np.zeros((3, 2)), np.zeros((3, 2))).scale == 1 / 255


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_never_passes(bad):
    fine, broken = np.ones((4, 3)), np.array([[1.0, 1.0, bad]] * 4)
    for expected, got in ((fine, broken), (broken, fine), (broken[:, 2:], broken[:, 2:])):
        result = VerifyResult((compare("y", expected, got),), 4, "float32", VerifyLimits(math.inf, math.inf, 0.0))
        assert not result.passed and "FAILED" in str(result)
        assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["outputs"][0]["max_error"] is None


def test_what_is_not_finite_in_both_at_the_same_place_is_left_out():
    expected = np.array([[1.0, np.nan, np.inf], [2.0, 3.0, -np.inf]])
    result = compare("y", expected, expected + 0.5)
    assert (result.max_error, result.equal_nan) == (0.5, 3) and result.within(VerifyLimits(math.inf, 1e9, 0.0))
    assert result.remarks == ["3 values of output 'y' are NaN or infinite in both."]


@given(st.integers(2, 6), st.integers(0, 5))
def test_the_ratio_is_that_of_the_worst_channel(channels, worst):
    rng, worst = np.random.default_rng(channels), worst % channels
    expected = rng.normal(size=(64, channels)) + 3
    error = np.full(expected.shape, 1e-3)
    error[:, worst] = 0.5
    result = compare("y", expected, expected + error, scale=1.0)
    assert result.channel == worst
    assert result.sqnr_db == pytest.approx(10 * np.log10((expected[:, worst] ** 2).sum() / (64 * 0.25)))


def test_few_values_have_one_ratio_and_no_error_an_infinite_one():
    expected = np.array([[1.0, 0.0], [3.0, 0.0]])
    assert compare("y", expected, expected).sqnr_db == math.inf
    result = compare("y", expected, expected + 0.1)
    assert result.channel is None and result.sqnr_db == pytest.approx(10 * math.log10(10 / 0.04))


def test_a_row_is_shown_and_gives_plain_values():
    result = compare("y", np.ones((4, 3)), np.ones((4, 3)), classes=True)
    assert re.search("agreement</td><td [^>]*>1</td>", result._repr_html_()) and result.to_dict()["task"] == "classes"


@pytest.mark.parametrize("magnitude", [1e-30, 1e-12, 1e-3])
def test_zeros_for_an_output_of_any_magnitude_do_not_pass(magnitude):
    expected, limits = np.linspace(-1.0, 1.0, 64).reshape(16, 4) * magnitude, DEFAULT_LIMITS["int8"]
    assert not compare("y", expected, np.zeros((16, 4)), scale=max(magnitude / 127, 8e-9)).within(limits)
    assert compare("y", np.zeros((16, 4)), np.zeros((16, 4)), scale=8e-9).within(limits)  # a dead output
    assert compare("y", np.zeros((16, 4)), expected, scale=max(magnitude, 8e-9)).within(limits)  # almost zero
    assert compare("y", np.full((16, 4), 1e-5), np.zeros((16, 4)), scale=1 / 256).within(limits)  # a sure sigmoid
    dead = expected * [1.0, 1.0, 1.0, 1e-6]
    assert compare("y", dead, dead * [1.0, 1.0, 1.0, 0.0], scale=magnitude / 127).within(limits)
