"""series: files and pairs are read whole, or refused with the row."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import tfgreen as tg
from tfgreen.energy.carbon.series import read_series


def write(folder, *lines):
    path = folder / "grid.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("header", "kg"),
    [
        ("timestamp,intensity_kg_per_kwh", 40.0),
        ("Datetime (UTC),Carbon intensity gCO\u2082eq/kWh", 0.04),
        ("date,gCO2/kWh", 0.04),
        ("time,forecast (gCO2e/kWh)", 0.04),
        ("\ufefftime;intensity [g per kWh]", 0.04),
        ("time\tgrams of CO2 per kWh", 0.04),
        ("timestamp,zone,kgCO2e per kWh", 40.0),
    ],
)
def test_the_header_says_what_a_number_means(tmp_path, header, kg):
    mark = next(mark for mark in ",;\t" if mark in header)
    middle = ["DE"] if "zone" in header else []
    rows = [mark.join([f"2026-01-01 0{hour}:00", *middle, "40"]) for hour in range(3)]
    found = read_series(write(tmp_path, header, *rows))
    assert found.kg_per_kwh == pytest.approx((kg,) * 3) and found.step == timedelta(hours=1)


@pytest.mark.parametrize(
    "header",
    ["timestamp,intensity", "timestamp,lbs per MWh", "timestamp,g/MWh", "hour,g/kWh", "t,a (g/kWh),b (g/kWh)", "time"],
)
def test_a_header_without_a_time_or_one_unit_is_refused(tmp_path, header):
    row = ",".join(["2026-01-01T00:00", "1", "1"][: header.count(",") + 1])
    with pytest.raises(ValueError, match="header: expected one column of times, and one.*unit.*gCO2eq/kWh"):
        read_series(write(tmp_path, header, row, row))


HOURS = [f"2026-01-01T0{hour}:00Z" for hour in range(6)]


@pytest.mark.parametrize(
    ("rows", "row", "message"),
    [
        ([(HOURS[0], 1), (HOURS[1], 1), (HOURS[3], 1), (HOURS[4], 1)], 3, "expected 2026-01-01T02:00.*the gap"),
        ([(HOURS[0], 1), (HOURS[2], 1), (HOURS[3], 1), (HOURS[4], 1)], 2, "expected 2026-01-01T01:00"),
        ([(HOURS[0], 1), (HOURS[1], 1), (HOURS[1], 1)], 3, r"received .*\. It stands there twice: leave one out\.$"),
        ([(HOURS[0], 1), (HOURS[2], 1), (HOURS[1], 1)], 3, r"received .*\. Sort the rows by time\.$"),
        ([(HOURS[0], 1), ("2026-01-01T02:00+01:00", 1)], 2, "expected the time zone of row .*in UTC"),
        ([(HOURS[0], 1), ("2026-01-01T01:00", 1)], 2, "expected the time zone of row "),
        ([(HOURS[0], 1), (HOURS[1], -1)], 2, "expected a carbon intensity >= 0"),
        ([(HOURS[0], ""), (HOURS[1], 1)], 1, "expected a carbon intensity >= 0"),
        ([(HOURS[0], float("nan")), (HOURS[1], 1)], 1, "expected a carbon intensity >= 0"),
        ([("31/01/2026", 1), (HOURS[1], 1)], 1, "expected a time after ISO 8601"),
        ([(HOURS[0], 1)], None, "two rows or more"),
    ],
)
def test_a_row_that_is_out_of_place_is_named_in_pairs_and_files(tmp_path, rows, row, message):
    """In a file by its line: the header is the first, and one that is empty counts."""
    with pytest.raises(ValueError, match=f"series{f', row {row}' if row else ''}: .*{message}"):
        read_series(rows)
    path = write(tmp_path, "time,kg/kWh", "", *(f"{time},{value}" for time, value in rows))
    with pytest.raises(ValueError, match=f"{path}{f', row {row + 2}' if row else ''}: .*{message}"):
        read_series(path)


@pytest.mark.parametrize(
    ("heading", "hours"), [("Datetime (UTC)", 0), ("datetime_utc", 0), ("time (UTC+1)", 1), ("Time [GMT-03:30]", -3.5)]
)
def test_the_heading_may_name_the_zone_of_the_times(tmp_path, heading, hours):
    found = read_series(write(tmp_path, f"{heading},g/kWh", "2026-01-01 00:00,1", "2026-01-01 01:00,1"))
    assert found.times[0] == datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=hours)))
    found = read_series(write(tmp_path, f"{heading},g/kWh", "2026-01-01 00:00+02:00,1", "2026-01-01 01:00+02:00,1"))
    assert found.times[0].utcoffset() == timedelta(hours=2)
    assert read_series(write(tmp_path, "time,g/kWh", "2026-01-01,1", "2026-01-02,1")).times[0].tzinfo is None


def test_of_several_intensities_one_is_chosen(tmp_path):
    columns = ["Carbon intensity gCO\u2082eq/kWh (direct)", "Carbon intensity gCO\u2082eq/kWh (Life cycle)"]
    path = write(tmp_path, f"Datetime (UTC),Zone id,{','.join(columns)}", "2026-01-01,DE,300,400", "2026-01-02,DE,1,2")
    for number, column in enumerate(columns):
        assert read_series(path, column).kg_per_kwh[0] == pytest.approx((0.3, 0.4)[number])
        assert tg.best_window(path, 24, column=column).start.day == 2
    for column in (None, "Zone id"):
        with pytest.raises(ValueError, match=r"column: expected one of '.*direct.*Life cycle.*grid.csv, received"):
            read_series(path, column)
    with pytest.raises(ValueError, match="column: expected None"):
        read_series([(HOURS[0], 1), (HOURS[1], 1)], "a")


def test_other_things_are_refused(tmp_path):
    with pytest.raises(TypeError, match="series: expected the path of a CSV file"):
        read_series(5)
    with pytest.raises(ValueError, match="row 1: expected a time and kg per kWh"):
        read_series([5, 6])
    with pytest.raises(ValueError, match="row 3: expected 2 cells"):
        read_series(write(tmp_path, "time,kg/kWh", "2026-01-01,0.4", "2026-01-02,0,5"))
    with pytest.raises(OSError, match="missing.csv"):
        read_series(tmp_path / "missing.csv")


def test_a_change_of_daylight_saving_time_is_said():
    start = datetime(2026, 3, 28, 22, tzinfo=timezone.utc)
    times = [(start + timedelta(hours=hour)).astimezone(ZoneInfo("Europe/Berlin")) for hour in range(6)]
    with pytest.raises(ValueError, match="row 4: expected the time zone of row 1.*2026-03-29T03:00:00.02:00.*UTC"):
        read_series([(time, 0.4) for time in times])
    assert len(read_series({time.astimezone(timezone.utc): 0.4 for time in times}).times) == 6


def test_the_example_says_that_it_is_made(tmp_path):
    path = tg.write_example_series(tmp_path / "made.csv")
    assert "made" in Path(path).read_text(encoding="utf-8").splitlines()[0]
    found = read_series(path)
    assert len(found.times) == 48 and 0.1 < min(found.kg_per_kwh) < max(found.kg_per_kwh) < 0.6


def test_a_made_file_takes_no_place_of_another_and_is_called_made(tmp_path):
    path = tmp_path / "grid.csv"
    path.write_text("my own figures")
    with pytest.raises(ValueError, match="path: expected the name of a new file"):
        tg.write_example_series(path)
    assert path.read_text() == "my own figures"
    assert "made carbon intensity" in str(tg.best_window(tg.write_example_series(tmp_path / "new.csv"), hours=3))
