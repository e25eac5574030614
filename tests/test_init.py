"""The public surface: one table, the same names for editors and type checkers, nothing heavy imported by it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tfgreen


def typed_imports() -> dict[str, str]:
    """Name -> module of the imports under ``if TYPE_CHECKING``."""
    tree = ast.parse(Path(tfgreen.__file__).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    return {alias.asname or alias.name: node.module for node in block.body for alias in node.names}


def test_editors_see_the_names_of_the_table():
    assert typed_imports() == tfgreen._PUBLIC


def test_an_import_is_light_and_every_public_name_loads():
    code = (
        "import sys, tfgreen; assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        "missing = [n for n in tfgreen.__all__ if not hasattr(tfgreen, n)]; assert not missing, missing"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        tfgreen.prun


@pytest.mark.slow
def test_a_type_checker_knows_every_public_name_and_refuses_a_wrong_call(tmp_path):
    script = tmp_path / "use.py"
    lines = [f"reveal_type(tg.{name})" for name in tfgreen.__all__]
    script.write_text("\n".join(["import tfgreen as tg", *lines, "tg.prune(1, 2, 3, nonsense=4)"]))
    root = Path(tfgreen.__file__).parents[1]
    run = [sys.executable, "-m", "mypy", "--config-file", str(root / "setup.cfg"), str(script)]
    out = subprocess.run(run, cwd=root, capture_output=True, text=True, check=False).stdout.splitlines()
    revealed = [line for line in out if "Revealed type" in line]
    assert len(revealed) == len(lines), out
    assert not [line for line in revealed if 'is "Any"' in line]
    assert [line for line in out if f"use.py:{len(lines) + 2}: error" in line], out
