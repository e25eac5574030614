from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture()
def text_data(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    sys.modules.pop("text_data", None)
    import text_data

    return text_data


def test_windows_are_of_docstrings_alone_and_targets_are_a_character_ahead(text_data, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "left_out.py").write_text('"""QQQQ"""\n')
    for number in range(12):
        code = f'"""{"ab" * 200}"""\nx = "zzzz"\ndef f():\n    """{"cd" * 200}é"""\n'
        (tmp_path / f"module_{number:02}.py").write_text(code)
    text = text_data.standard_library(16, tmp_path)
    assert text.characters == "abcd" and text.train.shape[1] == 17 and text.train.dtype == np.int32
    joined = np.concatenate([text.train[:, :-1].ravel(), text.train[-1, -1:]])
    letters = "".join("?abcd"[token] for token in joined)
    assert letters.startswith("ab" * 200 + "?" + "cd" * 200 + "??") and len(letters) > 10 * 800 * 0.99
    np.testing.assert_array_equal(text.train[:-1, -1], text.train[1:, 0])
    assert 0 < len(text.test) < len(text.train) / 4  # modules 0 and 10


def test_pieces_go_by_their_package_whose_name_they_do_not_tell(text_data, tmp_path):
    for name, words in (("alpha", "one two three four"), ("beta", "five six seven eight nine")):
        docs = "\n".join(f'def f{i}():\n    """{name} {words} {words}"""' for i in range(8))
        (tmp_path / f"{name}.py").write_text(docs)
    found = text_data.topics(4, 2, tmp_path)
    assert sorted(found.classes) == ["alpha", "beta"] and found.vocabulary[:2] == ["[PAD]", "[UNK]"]
    assert not {"alpha", "beta"} & set(found.vocabulary)
    for x, y in ((found.x_train, found.y_train), (found.x_test, found.y_test)):
        assert x.shape == (len(y), 4) and x.dtype == y.dtype == "int32" and set(y) == {0, 1}
    five = found.vocabulary.index("five")
    assert {found.classes[label] for label in found.y_train[(found.x_train == five).any(1)]} == {"beta"}
