"""best_window: the least carbon of all starts, before the deadline, and what it saves."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfgreen as tg

START = datetime(2026, 6, 1, tzinfo=timezone.utc)


def hourly(*values):
    return [(START + timedelta(hours=hour), value) for hour, value in enumerate(values)]


@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=12), st.floats(0.1, 3), st.floats(0, 0.9), st.data())
def test_no_start_by_the_minute_is_better(values, hours, earliest, data):
    """Against the integral over a fine grid of the step function, computed apart."""
    latest = data.draw(st.floats(earliest + hours + 1e-6, len(values)), label="deadline")
    now, deadline = START + timedelta(hours=earliest), START + timedelta(hours=latest)
    found = tg.best_window(hourly(*values), hours, deadline, now=now)
    grid = np.concatenate([[0], np.cumsum(values)])

    def mean(start, end):
        at = np.interp([start, end], np.arange(len(grid)), grid)
        return (at[1] - at[0]) / (end - start)

    start = (found.start - START) / timedelta(hours=1)
    assert earliest - 1e-6 <= start <= latest - hours + 1e-6 and (found.end - found.start) == timedelta(hours=hours)
    assert found.kg_per_kwh == pytest.approx(mean(start, start + hours), rel=1e-6)
    tried = [mean(s, s + hours) for s in np.linspace(earliest, latest - hours, 200)]
    assert found.kg_per_kwh <= min(tried) + 1e-6
    assert found.now_kg_per_kwh == pytest.approx(mean(earliest, earliest + hours), rel=1e-6)
    assert found.mean_kg_per_kwh == pytest.approx(mean(earliest, latest), rel=1e-6)
    assert found.saved_against_now == pytest.approx(1 - found.kg_per_kwh / found.now_kg_per_kwh, abs=1e-9)


def test_the_window_what_it_saves_and_the_deadline():
    series = hourly(0.4, 0.4, 0.1, 0.2, 0.4, 0.4, 0.05, 0.05)
    best = tg.best_window(series, 2)
    assert best.start == START + timedelta(hours=6) and best.kg_per_kwh == pytest.approx(0.05)
    assert best.saved_against_now == pytest.approx(0.875) and best.saved_against_mean == pytest.approx(0.8)
    early = tg.best_window(series, 2, deadline="2026-06-01T08:00+02:00")
    assert early.start == START + timedelta(hours=2) and early.mean_kg_per_kwh == pytest.approx(1.9 / 6)
    assert "2026-06-01 02:00+00:00" in str(early) and "62.5%" in early._repr_html_()
    assert json.loads(json.dumps(early.to_dict()))["start"] == "2026-06-01T02:00:00+00:00"
    assert repr(early).startswith("<BestWindow: 2026-06-01 02:00+00:00 to 2026-06-01 04:00+00:00, saves 62%")


def test_the_earliest_of_equal_windows_is_taken():
    assert tg.best_window(hourly(0.3, 0.1, 0.2, 0.1), 1).start == START + timedelta(hours=1)
    level = tg.best_window(hourly(0.3, 0.3, 0.3), 1)
    assert (level.start, level.saved_against_now, level.saved_against_mean) == (START, 0, 0)
    assert tg.best_window(hourly(0, 0, 0), 1).saved_against_now == 0


def test_what_the_series_does_not_reach_and_grams_are_said():
    assert "ends before the deadline" in str(tg.best_window(hourly(1, 1), 1, deadline="2026-07-01T00:00Z"))
    assert "divided by 1000" in str(tg.best_window(hourly(300, 200), 1))
    assert "divided" not in str(tg.best_window(hourly(0.3, 0.2), 1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hours": 0}, ValueError, "hours.*>= 0.001"),
        ({"hours": 5}, ValueError, "hours: expected at most the 3 h from 2026-06-01 00:00"),
        ({"hours": 1, "deadline": "2026-06-01T00:30Z"}, ValueError, "hours: expected at most the 0.5 h.*later"),
        ({"hours": 1, "deadline": "2026-06-01T02:00"}, ValueError, "deadline: expected a time with a time zone"),
        ({"hours": 1, "deadline": "2025-01-01T00:00Z"}, ValueError, "deadline: .*the start of the series.*is over"),
        (
            {"hours": 1, "deadline": "2026-06-01T01:00Z", "now": "2026-06-01T02:00Z"},
            ValueError,
            "deadline: expected a time after now, 2026-06-01 02:00.00:00, received 2026-06-01 01:00.*deadline is over",
        ),
        ({"hours": 1, "deadline": "tonight"}, ValueError, "deadline: expected a time after ISO 8601"),
        ({"hours": 1, "now": "2026-05-01T00:00Z"}, ValueError, "now: expected a time within the series"),
        ({"hours": "1"}, TypeError, "hours"),
    ],
)
def test_a_job_that_does_not_fit_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        tg.best_window(hourly(0.4, 0.2, 0.3), **arguments)


def test_times_without_a_zone_stay_without_one():
    series = [("2026-06-01T00:00", 0.4), ("2026-06-01T01:00", 0.2)]
    assert tg.best_window(series, 1, "2026-06-01T02:00").start == datetime(2026, 6, 1, 1)
    with pytest.raises(ValueError, match="deadline: expected a time without a time zone"):
        tg.best_window(series, 1, "2026-06-01T02:00Z")
