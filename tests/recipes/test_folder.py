"""whole_folder: all files of a result or none, whatever happens in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tfgreen.errors import FileError
from tfgreen.recipes import folder as folder_module
from tfgreen.recipes.folder import check_target, made_folder, whole_folder

FILES = ("a.txt", "b.txt")


def write(target, text="new"):
    with whole_folder(target, FILES) as folder:
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
            with whole_folder(tmp_path / target, FILES) as folder:
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

    monkeypatch.setattr(folder_module.Path, "rename", fail_on_the_new)
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
            check_target(target, FILES)
        with pytest.raises(FileError, match=message):
            write(target)
    assert sorted(os.listdir(tmp_path)) == ["file", "full"]
    assert sorted(os.listdir(tmp_path / "full")) == ["a.txt", "notes.txt"]


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
