"""The process that Apart starts: lines in, exit statuses out, results and logs in the folder of a call."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tfgreen.deploy.tflite.apart import _ARGUMENTS, _LOG, _RESULTS

MODULE = "tests.deploy.tflite.test_apart"


@pytest.fixture
def folders(tmp_path):
    """Folders of two calls of ``double``, of which the first crashes."""
    for name, arguments in (("crash", ([1, 2], True)), ("good", ([3],))):
        (tmp_path / name).mkdir()
        (tmp_path / name / _ARGUMENTS).write_bytes(pickle.dumps(arguments))
    return [tmp_path / "crash", tmp_path / "good"]


def served(forks, lines):
    """Exit status and answers of a server that reads these lines."""
    command = [sys.executable, "-c", f"from tfgreen.deploy.tflite.apart import serve; serve({forks})"]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = subprocess.run(command, input=text, text=True, capture_output=True, cwd=Path(__file__).parents[3])
    return done.returncode, done.stdout.split()


def yielded(folder):
    with (folder / _RESULTS).open("rb") as file:
        return [pickle.load(file) for _ in range(2 if folder.name == "crash" else 1)]


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux alone")
def test_each_call_is_a_fork_of_a_process_that_outlives_a_crash(folders):
    lines = [["no.module"], [MODULE], *([MODULE, "double", str(folder)] for folder in folders)]
    assert served(True, lines) == (0, ["-6", "0"])
    assert [yielded(folder) for folder in folders] == [[2, 4], [6]]
    assert "double free" in (folders[0] / _LOG).read_text() and "noise" in (folders[1] / _LOG).read_text()


def test_without_forks_the_first_call_is_the_end_of_the_process(folders):
    crash, good = folders
    assert served(False, [[MODULE, "double", str(good)], [MODULE, "double", str(crash)]]) == (0, [])
    assert yielded(good) == [6] and not (crash / _RESULTS).exists()
    assert served(False, [[MODULE], [MODULE, "double", str(crash)]])[0] != 0 and yielded(crash) == [2, 4]


def test_what_is_raised_is_in_the_log(folders):
    assert served(False, [[MODULE, "nothing", str(folders[1])]]) == (1, [])
    assert "has no attribute 'nothing'" in (folders[1] / _LOG).read_text()
