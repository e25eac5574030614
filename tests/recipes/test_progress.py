"""Progress: lines in a log, a live line in a terminal and in a notebook, silence."""

from __future__ import annotations

import io
import re

import pytest

from tfgreen.recipes import progress
from tfgreen.recipes.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_a_line_for_each_detail_and_the_time():
    stream = io.StringIO()
    with Progress(stream).step("train [fast]") as say:
        say("epoch 1 of 2 [x]" + "y" * 200)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "train [fast]: epoch 1 of 2 [x]" + "y" * 200
    assert re.fullmatch(r"train \[fast\]: \S+ s", lines[1])


def test_the_time_left_is_told_from_the_share_that_is_done(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress(stream).step("train") as say:
        say("epoch 0", 0.001)  # too early to tell
        now[0] += 60
        say("epoch 1", 0.25)
        now[0] += 180
        say("epoch 4", 1.0)
    told = ["train: epoch 0", "train: epoch 1, 3 min left of it", "train: epoch 4", "train: 4 min"]
    assert stream.getvalue().splitlines() == told


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
        say("epoch 2 of 2", 0.5)
    assert re.search(r"train \[fast\]: [\d.]+ s$", stream.getvalue().rstrip())


def test_silence(capsys):
    for silent in (Progress(), Progress.here()):
        with silent.step("train") as say:
            say("epoch 1 of 2", 0.5)
    assert capsys.readouterr() == ("", "")


CELL = """
from tfgreen.recipes import progress
progress._PAUSE = 0
with progress.Progress.here().step("train <i>") as say:
    for share in (0.5, 0.75):
        say("epoch", share)
"""


def test_a_notebook_has_one_bar_that_goes_when_the_step_is_done():
    import nbformat
    from nbclient import NotebookClient

    failing = CELL.replace('say("epoch", share)', "raise ValueError")
    cells = [nbformat.v4.new_code_cell(text) for text in (CELL, failing)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    updates = []

    class Client(NotebookClient):
        def process_message(self, message, cell, cell_index):
            if message["msg_type"] in ("display_data", "update_display_data"):
                updates.append(message["content"]["data"].get("text/html", ""))
            return super().process_message(message, cell, cell_index)

    Client(notebook, timeout=60, allow_errors=True).execute()
    bars = [re.search(r'value="([\d.]+)"', update) for update in updates]
    assert [bar and bar[1] for bar in bars] == [None, "0.500", "0.750", None, None, None, None]
    assert ["<progress" in update for update in updates] == [True, True, True, False, False, True, False]
    assert "train &lt;i&gt;: epoch" in updates[1] and " left" in updates[1]
    shown = [output["data"].get("text/html", "") for output in notebook.cells[0].outputs if "data" in output]
    assert len(shown) == 2 and "progress" not in "".join(shown) and re.search(r"train &lt;i&gt;: \S+ s", shown[1])
