from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.deploy import cases
from tfgreen.errors import FileError, InvalidValueError


@pytest.mark.parametrize("file, name", [("model.c", None), ("some-model.cc", "net_2"), ("m.cpp", None), ("m.h", "_m")])
def test_the_c_array_holds_the_bytes_of_the_file(tmp_path, file, name):
    lite = cases.artifact("functional", "int8")
    path = lite.save(tmp_path / file, name=name)
    text, symbol = path.read_text(), name or path.stem
    static = "static " if file.endswith(".h") else ""
    body = re.search(rf"^alignas\(16\) {static}const unsigned char {symbol}\[\] = \{{(.*?)\}};", text, re.M | re.S)
    assert bytes(int(byte, 16) for byte in re.findall(r"0x[0-9a-f]{2}", body.group(1))) == lite.content
    assert f"\n{static}const unsigned int {symbol}_len = {lite.size_bytes};\n" in text
    assert (f"extern const unsigned char {symbol}[];" in text) == (not static) == ("#pragma once" not in text)
    assert max(map(len, text.splitlines())) <= 120 and [p.name for p in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(
    "file, name, message",
    [
        ("model.tflite", "net", "name='net' is for C source only, and .*model.tflite is none"),
        ("my-model.c", None, "name: expected an identifier of C and C.., received 'my-model'. Pass name=."),
        ("model.c", "2nd", "received '2nd'"),
        ("model.c", "class", "received 'class'"),
        ("model.c", "a\n", "received"),
        ("model.c", "größe", "received 'größe'"),
    ],
)
def test_bad_names_are_refused_and_leave_no_file(tmp_path, file, name, message):
    with pytest.raises(InvalidValueError, match=message):
        cases.artifact("functional", "int8").save(tmp_path / file, name=name)
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        cases.artifact("functional", "int8").save(tmp_path / "none" / "model.c")


@pytest.mark.parametrize("language, suffix", [("c", ".c"), ("c++", ".cc")])
def test_a_compiler_takes_it_and_another_file_sees_the_bytes(tmp_path, language, suffix):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    lite = cases.artifact("functional", "int8")
    lite.save(tmp_path / f"net{suffix}")
    (tmp_path / f"main{suffix}").write_text(
        "extern const unsigned char net[];\nextern const unsigned int net_len;\n"
        f"int main(void) {{ return !(net_len == {lite.size_bytes} && (unsigned long)net % 16 == 0 && net[4] == 'T'); }}"
    )
    sources = [str(tmp_path / f"{name}{suffix}") for name in ("net", "main")]
    subprocess.run([compiler, "-x", language, *sources, "-o", str(tmp_path / "a.out")], check=True, capture_output=True)
    assert subprocess.run([str(tmp_path / "a.out")], check=False).returncode == 0
