"""Metric: shares and other numbers, and the interval of a share."""

from __future__ import annotations

import pytest
from scipy import stats

from tfgreen.reports.metric import Metric, share_interval


def test_shares_are_percent_and_others_plain_numbers():
    error = Metric(name="mae", higher_is_better=False, share=False)
    assert Metric().text(0.99166) == "99.17 %" and error.text(12.34567) == "12.35"
    assert Metric().change(0.8380, 0.8452) == "-0.72 points" and Metric().change(0.83801, 0.83799) == "same"
    assert error.change(2.5, 3.0) == "-0.5" and error.change(1.0, 1.0) == "same"
    assert Metric(**error.to_dict()) == error


@pytest.mark.parametrize(("hits", "samples"), [(357, 360), (0, 10), (10, 10), (5, 9)])
def test_the_interval_is_that_of_wilson(hits, samples):
    expected = stats.binomtest(hits, samples).proportion_ci(0.95, method="wilson")
    assert share_interval(hits / samples, samples) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_bad_metrics_are_refused():
    with pytest.raises(ValueError, match="metric, name"):
        Metric(name="")
    with pytest.raises(TypeError, match="higher_is_better"):
        Metric(higher_is_better=1)
    with pytest.raises(ValueError, match="share"):
        share_interval(1.5, 3)
