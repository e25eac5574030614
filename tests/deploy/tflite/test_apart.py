"""Apart: what a function yields in a process of its own, whatever ends that process."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest

from tfgreen.deploy.tflite import apart
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


def sleep(file):
    file.with_suffix(".part").write_text(str(os.getpid()))
    file.with_suffix(".part").rename(file)
    time.sleep(600)
    yield 0


def wait_until(holds):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_items_come_back_and_printed_text_is_not_among_them():
    with Apart(double) as other:
        ended = other.run([np.arange(3), "ab"])
    assert (ended.items[0] == [0, 2, 4]).all() and ended.items[1] == "abab"
    assert (ended.status, ended.crashed) == (0, False) and "noise" in ended.log


def test_a_crash_is_told_with_what_came_before_it():
    with Apart(double) as other:
        ended = other.run([1, 2], True)
    assert ended.crashed and ended.items == [2, 4] and ended.how == f"signal {int(signal.SIGABRT)}"
    assert "double free" in ended.log
    with Apart(fail) as other:
        ended = other.run()
    assert not ended.crashed and ended.items == [1] and "no more" in ended.log


def process_of(apart):
    return apart._server.process


@pytest.fixture
def no_process_waits():
    apart._end_all()


def test_a_process_waits_for_the_next_function_also_where_none_ran_or_one_crashed(no_process_waits):
    with Apart(double) as first:
        pass
    for crash in (True, False):
        with Apart(double) as other:
            assert process_of(other) is process_of(first) and other.run([1], crash).crashed == crash
    assert process_of(first).poll() is None
    with Apart(double) as one, Apart(double) as other:
        assert process_of(one) is not process_of(other)
        assert one.run([1]).items == other.run([1]).items == [2]
    assert [process_of(each).poll() is None for each in (other, one)] == [True, False]  # one of them is kept
    apart._end_all()
    assert process_of(other).poll() is not None


def test_a_process_that_is_left_while_it_runs_ends_with_what_it_runs(no_process_waits, tmp_path, monkeypatch):
    def interrupted(*_):
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Apart(sleep) as left:
        monkeypatch.setattr(process_of(left).stdout, "readline", interrupted, raising=False)
        left.run(tmp_path / "pid")
    assert process_of(left).poll() is not None and not apart._idle
    wait_until(lambda: not psutil.pid_exists(int((tmp_path / "pid").read_text())))


def test_one_that_waits_and_has_ended_is_replaced(no_process_waits):
    with Apart(double) as first:
        pass
    process_of(first).kill()
    process_of(first).wait()
    with Apart(double) as other:
        assert other.run([1]).items == [2]
    with Apart(double) as killed:
        assert process_of(killed) is process_of(other)
        process_of(killed).kill()
        ended = killed.run([1])
    assert ended.items == [] and ended.crashed and process_of(killed).poll() is not None


def test_a_fork_of_the_program_starts_its_own(no_process_waits):
    with Apart(double) as first:
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks of a process with threads
        process = os.fork()
    if process == 0:
        os._exit(len(apart._idle))
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    with Apart(double) as other:
        assert process_of(other) is process_of(first) and other.run([1]).items == [2]


def test_where_there_is_no_fork_each_process_ends_with_its_function(no_process_waits, monkeypatch):
    monkeypatch.setattr(apart, "_FORKS", False)
    with Apart(double) as first:
        ended = first.run([1], True)
    assert ended.items == [2] and ended.how == f"signal {int(signal.SIGABRT)}" and "double free" in ended.log
    with Apart(double) as other, Apart(double) as unused:
        assert other.run([1]).items == [2]
    assert None not in [process_of(each).poll() for each in (first, other, unused)] and not apart._idle


def test_a_module_that_cannot_be_imported_is_told():
    with Apart(double) as lost:
        lost._function = types.SimpleNamespace(__module__="no.module", __name__="f")
        ended = lost.run()
    assert ended.status == 1 and ended.items == [] and "No module named 'no'" in ended.log


def test_several_threads_have_one_each():
    def run(number):
        with Apart(double) as other:
            return other.run([number]).items

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, range(8))) == [[2 * number] for number in range(8)]


def test_a_program_without_a_main_guard_is_not_run_again(tmp_path):
    program = tmp_path / "program.py"
    (tmp_path / "pickle.py").write_text("raise SystemExit('shadowed')")
    program.write_text(
        "import sys; sys.path.pop(0)\nprint('once')\nfrom tests.deploy.tflite.test_apart import Apart, double\n"
        "with Apart(double) as apart:\n    print(apart.run([3]).items)"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True
    )
    assert done.stdout.decode().splitlines() == ["once", "[6]"], done.stderr


def test_it_runs_here_where_python_cannot_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with Apart(double) as here:
        assert here.run([4]).items == [8]
    assert here._server is None
