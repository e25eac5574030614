"""Recipes as files: values, lines, and what is refused."""

from __future__ import annotations

import pytest

from tfgreen.errors import FileError, InvalidValueError, invalid_value
from tfgreen.recipes.recipe.read_file import Lines, read_file


def read(tmp_path, text, name="r.yaml"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_file(path)


def test_yaml_and_json_hold_the_same(tmp_path):
    yaml, lines = read(tmp_path, "a: 1e-3\nb:\n  - c: {d: 50%, e: null}\n  - -2E5\n  - on\n")
    json, _ = read(tmp_path, '{"a": 1e-3, "b": [{"c": {"d": "50%", "e": null}}, -2E5, true]}', "r.json")
    assert yaml == json == {"a": 1e-3, "b": [{"c": {"d": "50%", "e": None}}, -2e5, True]}
    assert lines.prefix(("b", 0, "c", "d")).endswith("line 3: ") and lines.prefix(("b", 1)).endswith("line 4: ")
    assert lines.prefix(("b", 1, "unknown")).endswith("line 4: ") and Lines().prefix(("b",)) == ""


def test_an_error_gets_the_line_of_the_setting_it_is_about(tmp_path):
    _, lines = read(tmp_path, "steps:\n  - train:\n      epochs: 3\n      rate: -1\n")
    with pytest.raises(InvalidValueError, match=r"r.yaml, line 4: rate: expected x, received -1"):
        with lines.naming("steps", 0, "train"):
            raise invalid_value("rate", expected="x", received=-1)
    with pytest.raises(InvalidValueError, match=r"r.yaml, line 2: other"):
        with lines.naming("steps", 0, "train"):
            raise invalid_value("other", expected="x", received=-1)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: expected each key once, received 'a' again"),
        ("a: &x [1]\nb: *x\n", "anchor or a tag"),
        ("a: !!python/object/apply:os.system [ls]\n", "anchor or a tag"),
        ("a: !!python/name:os.system\n", "line 1: expected YAML or JSON"),
        ("a: [1\nb: 2\n", "line 2: expected YAML or JSON"),
        (b"\xff\xfe\x00\xd8", "expected YAML or JSON"),
        ("a: &x {b: *x}\n", "anchor or a tag"),
    ],
)
def test_what_is_no_plain_file_is_refused(tmp_path, text, match):
    with pytest.raises(FileError, match=match):
        read(tmp_path, text)


def test_an_empty_or_missing_file(tmp_path):
    assert read(tmp_path, "# nothing\n")[0] is None
    with pytest.raises(FileError, match="no.yaml: cannot be read"):
        read_file(tmp_path / "no.yaml")
