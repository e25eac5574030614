"""The list of messages that the tests provoke."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "error_messages.py"
TESTS = """
import pytest
from tfgreen.checks import check_integer
from tfgreen.errors import FileError
from tfgreen.files import check_folder

def test_errors(tmp_path):
    for value in (0, -7):
        with pytest.raises(ValueError):
            check_integer("epochs", value, minimum=1)
    try:
        check_folder(__file__, ())
    except FileError:
        pass
    with pytest.raises(ValueError):
        int("of Python itself")
"""


def test_every_message_is_printed_once(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, str(SCRIPT), str(tmp_path), "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    *_, count, first, second = done.stdout.splitlines()
    assert count == "2 messages" and second == "epochs: expected an integer >= 1, received 0."
    assert first.endswith("test_it.py: expected a folder to write to, received a file.")
