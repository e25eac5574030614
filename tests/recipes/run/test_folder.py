"""The folder of a run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tfgreen.errors import FileError
from tfgreen.recipes.run.folder import RUN_FILE, check_run_folder, locked, writing


def test_a_folder_of_other_things_is_refused(tmp_path):
    assert check_run_folder(tmp_path / "new") == tmp_path / "new" and check_run_folder(tmp_path) == tmp_path
    (tmp_path / "photo.png").write_text("")
    with pytest.raises(FileError, match="holds 'photo.png'"):
        check_run_folder(tmp_path)
    with pytest.raises(FileError, match="received a file"):
        check_run_folder(tmp_path / "photo.png")
    (tmp_path / RUN_FILE).write_text("{}")
    check_run_folder(tmp_path)


def test_two_runs_in_one_folder_are_told_apart_from_one_that_was_killed(tmp_path):
    code = f"""
import os, sys, time
from pathlib import Path
from tfgreen.recipes.run.folder import locked
with locked(Path({str(tmp_path)!r})):
    print("locked", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(FileError, match=f"process {other.pid} is running here"):
            with locked(tmp_path):
                pass
        other.kill()
    with locked(tmp_path):
        pass


def test_a_full_disk_says_what_is_left(tmp_path):
    with pytest.raises(FileError, match="No space left on device. What was finished is kept"):
        with writing(tmp_path), open("/dev/full", "w") as file:
            file.write("x")
