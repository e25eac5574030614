"""python -m tfgreen is the command."""

from __future__ import annotations

import subprocess
import sys

import tfgreen as tg


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "tfgreen", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and tg.__version__ in done.stdout
