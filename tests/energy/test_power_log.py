"""PowerLog: joules out of rows of time and power, and what is wrong with a file."""

from __future__ import annotations

import datetime

import numpy as np
import pytest

import tfgreen as tg


def written(folder, text):
    path = folder / "log.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_power_is_integrated_by_trapezoids(tmp_path):
    rng = np.random.default_rng(0)
    times, watts = np.arange(200) * 0.5 + rng.uniform(0, 0.2, 200), rng.uniform(1, 9, 200)
    rows = "".join(f"{time},{power},x\n" for time, power in zip(times, watts))
    log = tg.PowerLog(written(tmp_path, "timestamp,watts,note\n" + rows))
    fine = np.linspace(times[3] + 0.1, times[150] + 0.2, 400_001)
    expected = np.trapezoid(np.interp(fine, times, watts), fine)
    assert log.joules_until(fine[-1]) - log.joules_until(fine[0]) == pytest.approx(expected, rel=1e-6)
    assert log.period_s == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "header, scale", [("timestamp,power_mw", 1e-3), ("time_ms,W", 1), ("Timestamp,power (W)", 1), ("time (s),mW", 1e-3)]
)
def test_units_stand_in_the_header(tmp_path, header, scale):
    second = 1000 if "ms" in header.split(",")[0] else 1
    log = tg.PowerLog(written(tmp_path, f"{header}\n0,8\n{second},8\n{2 * second},8\n"))
    assert log.joules_until(2.0) == pytest.approx(16 * scale)


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_a_byte_order_mark_and_other_marks_between_columns(tmp_path, mark):
    rows = ["\ufefftimestamp,note,watts", '0,"a",8', "1,b,8", "2,c,8"]
    log = tg.PowerLog(written(tmp_path, "\n".join(rows).replace(",", mark) + "\n"))
    assert log.joules_until(2.0) == pytest.approx(16)


def test_iso_times_and_rows_that_come_later(tmp_path):
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    rows = [f"{(start + datetime.timedelta(seconds=i)).isoformat()},{i}\n" for i in range(6)]
    path = written(tmp_path, "timestamp,watts\n" + "".join(rows[:3]) + rows[3][:8])
    log = tg.PowerLog(path)
    assert log.joules_until(start.timestamp() + 2) == pytest.approx(2.0)
    assert log.joules_until(start.timestamp() + 3) == pytest.approx(4.0)  # held until a row says more
    with path.open("a") as file:
        file.write(rows[3][8:] + "".join(rows[4:]))
    assert log.joules_until(start.timestamp() + 5) == pytest.approx(12.5)
    with pytest.raises(ValueError, match="5.5 s after the last row"):
        log.joules_until(start.timestamp() + 10.5)


@pytest.mark.parametrize(
    "text, message",
    [
        ("timestamp,power\n0,1\n1,1\n", "its unit.*'power'"),
        ("when,watts\n0,1\n1,1\n", "column 'timestamp'"),
        ("timestamp,watts,power_mw\n0,1,1\n", "row 1: expected one column of power, received 2: 'watts', 'power_mw'"),
        ("time,timestamp,W\n0,1,1\n", "one column of time, received 2: 'time', 'timestamp'"),
        ("timestamp,watts\n0,1\n", "two rows"),
        ("timestamp,watts\n0,1\n1,high\n", "row 3.*high"),
        ("timestamp,watts\n0,1\n1,-4\n", "row 3.*0 or more"),
        ("timestamp,watts\n0,1\n1\n", "row 3"),
        ("timestamp,watts\n1,1\n0,1\n", "row 3.*after that of the row before"),
        ("timestamp,watts\n0,1\n1,1\n2,1\n30,1\n", "row 5.*gap of 28 s"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        tg.PowerLog(written(tmp_path, text))


def test_a_wrong_unit_of_times_and_a_decimal_comma_are_guessed(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("timestamp,watts\n" + "".join(f"{1.79e12 + 1000 * t},5.0\n" for t in range(4)))
    with pytest.raises(ValueError, match="timestamp_ms"):
        tg.PowerLog(path).joules_until(1.79e9)
    path.write_text("timestamp;watts\n1790000000;5,0\n1790000001;5,1\n")
    with pytest.raises(ValueError, match="decimals with a point"):
        tg.PowerLog(path)
    path.write_text("timestamp,watts\n1790000000,5.0\n1790000001,5.1\n")
    with pytest.raises(ValueError, match="seconds"):
        tg.PowerLog(path).joules_until(float("nan"))
