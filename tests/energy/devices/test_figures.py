"""Figures and levels from plain values; wrong ones are named."""

from __future__ import annotations

import pytest

import tfgreen as tg
from tfgreen.energy.devices.figures import DeviceFigure, MemoryLevel, check_fields, read_figure, read_level


def test_a_figure_and_a_level_are_read():
    figure = {"value": 3, "source": "a datasheet"}
    assert read_figure("x", figure) == DeviceFigure(3.0, "a datasheet")
    level = {"level": "SRAM", "holds": "all"} | dict.fromkeys(
        ("capacity_bytes", "bytes_per_second", "picojoules_per_byte"), figure
    )
    assert read_level("x", level) == MemoryLevel("SRAM", "all", *[DeviceFigure(3.0, "a datasheet")] * 3)
    with pytest.raises(tg.InvalidValueError, match="x, holds: expected 'all', 'weights' or 'activations'"):
        read_level("x", level | {"holds": "code"})


def test_an_assumption_is_known_by_its_source():
    assert DeviceFigure(1.0, "assumption: a guess").assumed and not DeviceFigure(1.0, "datasheet").assumed


def test_a_missing_field_comes_with_the_name_that_may_be_meant():
    check_fields("x", {"value": 1}, ["value"])
    with pytest.raises(tg.InvalidValueError, match="x: the field 'value' is missing. Is 'valeu' meant for it"):
        check_fields("x", {"valeu": 1}, ["value"])
