"""Apart: what a function yields in a process of its own, whatever ends that process."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from tfgreen.deploy.tflite.apart import Apart


def double(values, crash=False):
    for value in values:
        os.write(1, b"noise of native code")
        yield value * 2
    if crash:
        os.write(2, b"double free")
        os.abort()


def fail():
    yield 1
    raise RuntimeError("no more")


def test_items_come_back_and_printed_text_is_not_among_them():
    with Apart(double) as apart:
        ended = apart.run([np.arange(3), "ab"])
    assert (ended.items[0] == [0, 2, 4]).all() and ended.items[1] == "abab"
    assert (ended.status, ended.crashed) == (0, False) and "noise" in ended.log


def test_a_crash_is_told_with_what_came_before_it():
    with Apart(double) as apart:
        ended = apart.run([1, 2], True)
    assert ended.crashed and ended.items == [2, 4] and ended.how == f"signal {int(signal.SIGABRT)}"
    assert "double free" in ended.log
    with Apart(fail) as apart:
        ended = apart.run()
    assert not ended.crashed and ended.items == [1] and "no more" in ended.log


def test_a_process_that_is_not_used_ends():
    with Apart(double) as apart:
        process = apart._process
    assert process is not None and process.poll() is not None


def test_several_threads_have_one_each():
    def run(number):
        with Apart(double) as apart:
            return apart.run([number]).items

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(8))) == [[2 * number] for number in range(8)]


def test_a_program_without_a_main_guard_is_not_run_again(tmp_path):
    program = tmp_path / "program.py"
    (tmp_path / "pickle.py").write_text("raise SystemExit('shadowed')")
    program.write_text(
        "import sys; sys.path.pop(0)\nprint('once')\nfrom tests.deploy.tflite.test_apart import Apart, double\n"
        "print(Apart(double).run([3]).items)"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True
    )
    assert done.stdout.decode().splitlines() == ["once", "[6]"], done.stderr


def test_it_runs_here_where_python_cannot_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with Apart(double) as apart:
        assert apart.run([4]).items == [8]
    assert apart._process is None
