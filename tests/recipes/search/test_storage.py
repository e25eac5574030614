"""Where a study is kept."""

from __future__ import annotations

import pytest

from tests.recipes.search.problems import problem
from tfgreen.errors import FileError, InvalidTypeError
from tfgreen.recipes.search.explore import explore
from tfgreen.recipes.search.study import Study


def test_what_a_killed_process_wrote_in_part_is_cut_off(tmp_path):
    path = tmp_path / "journal"
    explore(problem(), Study(problem(), "study", storage=path), trials=2, budget={})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":4,"wor')
    study = Study(problem(), "study", storage=path)
    explore(problem(), study, trials=3, budget={})
    assert len(study.candidates()) == 3 and b'"wor{' not in path.read_bytes()


def test_a_database_holds_the_same(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    explore(problem(), Study(problem(), "study", storage=url), trials=2, budget={})
    settings = [one.settings for one in Study(problem(), "study", storage=url).candidates()]
    memory = Study(problem(), "study")
    explore(problem(), memory, trials=2, budget={})
    assert settings == [one.settings for one in memory.candidates()]


@pytest.mark.parametrize(
    ("storage", "told"),
    [
        ("postgres9://host/db", "cannot be opened"),
        ("sqlite:////no/such/folder/a.db", "cannot be opened"),
        ("no/such/folder/journal", "its folder does not exist"),
        (".", "received a folder"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named(storage, told):
    with pytest.raises(FileError, match=told):
        Study(problem(), "study", storage=storage)


def test_a_password_is_not_shown():
    with pytest.raises(FileError) as error:
        Study(problem(), "study", storage="nosuch://user:secret@host/db")
    assert "secret" not in str(error.value) and "host/db" in str(error.value)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello\n")
    with pytest.raises(FileError, match="notes.txt: expected a new file or the journal"):
        Study(problem(), "study", storage=tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "hello\n"
    with pytest.raises(InvalidTypeError, match="storage: expected the path"):
        Study(problem(), "study", storage=3)
