"""Progress: lines in a log, a live line in a terminal, silence."""

from __future__ import annotations

import io

import pytest

from tfgreen.recipes.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_a_line_for_each_detail_and_the_time():
    stream = io.StringIO()
    with Progress(stream).step("train [fast]") as say:
        say("epoch 1 of 2 [x]" + "y" * 200)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train [fast]: epoch 1 of 2 [x]" + "y" * 200 and lines[1] == "train [fast]: 0.0 s"


def test_a_failed_step_writes_nothing_in_a_log():
    stream = io.StringIO()
    with pytest.raises(ValueError):
        with Progress(stream).step("convert"):
            raise ValueError
    assert stream.getvalue() == ""


def test_a_terminal_shows_the_step_and_keeps_its_time(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Progress(stream).step("train [fast]") as say:
        say("epoch 1 of 2")
    assert stream.getvalue().rstrip().endswith("train [fast]: 0.0 s")


def test_silence():
    with Progress().step("train") as say:
        say("epoch 1 of 2")
