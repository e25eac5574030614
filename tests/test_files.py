"""Files and folders: whole or not there, whatever happens in between."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tfgreen import files
from tfgreen.errors import FileError
from tfgreen.files import atomic_file, atomic_folder, check_folder, made_folder, reading, write_atomic

FILES = ("a.txt", "b.txt")


def rights(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_write_atomic_replaces_whole_files_and_leaves_nothing_on_failure(tmp_path):
    target = tmp_path / "model.tflite"
    write_atomic(target, b"first")
    assert write_atomic(target, b"second") == target
    assert target.read_bytes() == b"second"
    assert write_atomic(str(target), "\u00b5").read_bytes() == b"\xc2\xb5"
    assert os.listdir(tmp_path) == ["model.tflite"]
    with pytest.raises(FileError, match="missing.*cannot be written: No such file"):
        write_atomic(tmp_path / "missing" / "model.tflite", b"x")
    folder = tmp_path / "taken"
    folder.mkdir()
    with pytest.raises(OSError):
        write_atomic(folder, b"x")
    assert sorted(os.listdir(tmp_path)) == ["model.tflite", "taken"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, OSError(28, "No space left on device")])
def test_a_streamed_file_appears_whole_or_not_at_all(stop, tmp_path):
    target = tmp_path / "cache"
    with atomic_file(target) as file:
        file.truncate(8)
        file.seek(4)
        file.write(b"tail")
        file.seek(0)
        assert file.read() == bytes(4) + b"tail" and not target.exists()
    with pytest.raises(FileError if isinstance(stop, OSError) else stop):
        with atomic_file(target) as file:
            file.write(b"half")
            raise stop
    assert os.listdir(tmp_path) == ["cache"] and target.read_bytes() == bytes(4) + b"tail"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_rights_are_those_of_a_plain_file_and_folder(umask, tmp_path):
    before = os.umask(umask)
    try:
        (tmp_path / "plain").write_bytes(b"x")
        (tmp_path / "folder").mkdir()
        write_atomic(tmp_path / "whole", b"x")
        write(tmp_path / "out")
    finally:
        os.umask(before)
    assert rights(tmp_path / "whole") == rights(tmp_path / "plain") == 0o666 & ~umask
    assert rights(tmp_path / "out") == rights(tmp_path / "folder") == 0o777 & ~umask


def test_threads_write_at_once_and_the_umask_of_the_process_is_not_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("another thread would make its files with this umask"))
    failures, payloads = [], [bytes([65 + number]) * 100_000 for number in range(2)]

    def work(number):
        try:
            for _ in range(40):
                write_atomic(tmp_path / "shared", payloads[number])
                assert (tmp_path / "shared").read_bytes() in payloads
                assert write_atomic(tmp_path / f"own{number}", payloads[number]).read_bytes() == payloads[number]
                write(tmp_path / f"out{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(os.listdir(tmp_path)) == ["out0", "out1", "own0", "own1", "shared"]


def write(target, text="new"):
    with atomic_folder(target, FILES) as folder:
        for name in FILES:
            (folder / name).write_text(text)


def test_a_result_appears_whole_and_readable(tmp_path):
    write(tmp_path / "deep" / "down" / "out")
    place = tmp_path / "deep" / "down" / "out"
    assert sorted(os.listdir(place)) == ["a.txt", "b.txt"] and os.listdir(place.parent) == ["out"]
    assert place.stat().st_mode & 0o777 == (tmp_path / "deep").stat().st_mode & 0o777


def test_an_earlier_result_or_an_empty_folder_is_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    for text in ("first", "second"):
        write(tmp_path / "out", text)
        assert (tmp_path / "out" / "a.txt").read_text() == text and os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError, OSError])
def test_an_interrupted_run_leaves_nothing_and_keeps_the_earlier_result(stop, tmp_path):
    write(tmp_path / "out", "first")
    for target in ("out", "new", "deep/new"):
        with pytest.raises(stop):
            with atomic_folder(tmp_path / target, FILES) as folder:
                (folder / "a.txt").write_text("half")
                raise stop
    assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out" / "a.txt").read_text() == "first"


def test_a_failed_swap_brings_the_earlier_result_back(tmp_path, monkeypatch):
    write(tmp_path / "out", "first")
    rename = Path.rename

    def fail_on_the_new(path, target):
        if path.name.startswith(".out.") and "old" not in path.name:
            raise OSError(28, "No space left on device", str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_on_the_new)
    with pytest.raises(FileError, match="No space left"):
        write(tmp_path / "out", "second")
    assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out" / "a.txt").read_text() == "first"


def test_folders_that_must_not_be_written_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("a result")
    (tmp_path / "full" / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    for target, message in {
        "file": "received a file",
        "full": "holds 'notes.txt'",
        ".": "the current folder",
        "/": "a mount point",
        "file/out": "cannot be written",
        "/proc/out": "cannot be written",
    }.items():
        with pytest.raises(FileError, match=message):
            check_folder(target, FILES)
        with pytest.raises(FileError, match=message):
            write(target)
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]
    assert sorted(os.listdir(tmp_path / "full")) == ["a.txt", "notes.txt"]


def test_what_the_system_says_against_reading_names_the_file(tmp_path):
    with pytest.raises(FileError, match="absent: cannot be read: No such file or directory."):
        with reading(tmp_path / "absent"), open(tmp_path / "absent"):
            raise AssertionError("not reached")
    with pytest.raises(FileError, match="^not a model$"), reading(tmp_path):
        raise FileError("not a model")
    with pytest.raises(ValueError, match="a bug"), reading(tmp_path):
        raise ValueError("a bug")


def test_a_made_folder_stays_only_if_the_work_succeeds(tmp_path):
    with pytest.raises(ValueError):
        with made_folder(tmp_path / "a" / "b"):
            raise ValueError
    assert not os.listdir(tmp_path)
    with made_folder(tmp_path / "a" / "b"):
        pass
    with pytest.raises(ValueError):
        with made_folder(tmp_path / "a" / "b"):
            raise ValueError
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file", tmp_path / "file" / "c", Path("/proc/c")):
        with pytest.raises(FileError, match="cannot be written"):
            with made_folder(target):
                raise AssertionError("not reached")


def killed(code: str, folder: Path) -> list[str]:
    """What a process leaves in a folder that runs ``code`` and is killed inside it."""
    program = f"import os, tempfile; tempfile.tempdir = {str(folder)!r}\nfrom tfgreen import files\n{code}"
    subprocess.run([sys.executable, "-c", program], check=False)
    return sorted(os.listdir(folder))


KILLED = {
    "file": "with files.atomic_file({0!r}): os.kill(os.getpid(), 9)",
    "folder": "with files.atomic_folder({0!r}, ['a']): os.kill(os.getpid(), 9)",
    "temporary": "with files.temporary_folder(): os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("kind", KILLED)
def test_the_next_run_removes_what_a_killed_process_left(kind, tmp_path, monkeypatch):
    target, living = tmp_path / "result", tmp_path / f".other.{os.getpid()}"
    living.write_text("not a temporary of this target")
    left = killed(KILLED[kind].format(str(target)), tmp_path)
    assert len(left) == 2
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if kind == "file":
        files.write_atomic(target, b"new")
    elif kind == "folder":
        with files.atomic_folder(target, ["a"]) as folder:
            (folder / "a").write_text("new")
    else:
        with files.temporary_folder() as folder:
            assert folder.stat().st_mode & 0o777 == 0o700 and len(os.listdir(tmp_path)) == 2
    assert sorted(os.listdir(tmp_path)) == sorted([living.name, *(["result"] if kind != "temporary" else [])])


def test_what_a_living_process_or_another_machine_writes_stays(tmp_path):
    here = files._beside(tmp_path / "a").name
    machine, _, token = here.removeprefix(".a.").split("-")
    kept = [here, f".a.{'0' * 8}-{2**22 + 1}-{token}", ".a.txt", f".ab.{machine}-{2**22 + 1}-{token}"]
    for name in kept:
        (tmp_path / name).write_text("")
    files.write_atomic(tmp_path / "a", b"new")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "a"])


def test_the_earlier_result_that_a_killed_process_moved_aside_is_kept_until_there_is_a_new_one(tmp_path):
    target = tmp_path / "result"
    target.mkdir()
    (target / "a").write_text("old")
    code = (
        "import pathlib\nreal = pathlib.Path.rename\n"
        "def rename(self, to):\n    if str(to) == {0!r}: os.kill(os.getpid(), 9)\n    return real(self, to)\n"
        "pathlib.Path.rename = rename\nwith files.atomic_folder({0!r}, ['a']): pass"
    )
    killed(code.format(str(target)), tmp_path)
    assert not target.exists()
    assert [path.read_text() for path in tmp_path.glob(".result.old.*/result/a")] == ["old"]
    for text in ("new", "newer"):
        with files.atomic_folder(target, ["a"]) as folder:
            (folder / "a").write_text(text)
    assert os.listdir(tmp_path) == ["result"] and (target / "a").read_text() == "newer"
