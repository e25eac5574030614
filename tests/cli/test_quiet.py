"""quiet_native_output: descriptors are captured, and given back whatever happens."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from tfgreen.cli.quiet import quiet_native_output


def test_quiet_captures_file_descriptors_and_restores_them(capfd):
    with pytest.raises(RuntimeError):
        with quiet_native_output() as captured:
            os.write(2, b"noise")
            raise RuntimeError
    os.write(1, b"heard")
    assert captured == ["noise"]
    assert capfd.readouterr() == ("heard", "")


def test_the_logger_of_tensorflow_gets_its_level_back():
    logger = logging.getLogger("tensorflow")
    before = logger.level
    with quiet_native_output():
        assert logger.level == logging.ERROR
    assert logger.level == before


@pytest.mark.slow
def test_tensorflow_and_litert_start_without_a_word():
    code = "from tfgreen.cli.quiet import start_litert, start_tensorflow; start_tensorflow(); start_litert()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_only_what_python_writes_is_on_stderr():
    code = (
        "import logging, os, sys; from tfgreen.cli.quiet import python_stderr_only\n"
        "with python_stderr_only():\n"
        "    os.write(2, b'of C++'); print('of Python', file=sys.stderr)\n"
        "    logging.getLogger('tensorflow').warning('retracing')\n"
        "os.write(2, b'after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "of Python\nafter")
    crash = "with python_stderr_only():\n    ctypes.string_at(0)"
    crash = f"import ctypes; from tfgreen.cli.quiet import python_stderr_only\n{crash}"
    done = subprocess.run([sys.executable, "-c", crash], capture_output=True, text=True)
    assert done.returncode < 0 and "Segmentation fault" in done.stderr and "line 3" in done.stderr
