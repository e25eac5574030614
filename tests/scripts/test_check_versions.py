"""Which combinations of versions are tried, and what the rows of the table say."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "scripts")
        yield importlib.import_module("check_versions")


def test_what_is_not_allowed_or_not_there_has_a_reason(script, monkeypatch):
    monkeypatch.setattr(script, "has_python", lambda release: release != "3.99")
    found = {tuple(one): reason for one, reason in script.combinations(["3.11", "3.99"], ["3.2", "newest"], ["2.21"])}
    assert found == {
        ("3.11", "3.2", "2.21"): "setup.cfg does not allow this Keras",
        ("3.11", "newest", "2.21"): "",
        ("3.99", "3.2", "2.21"): "python3.99 is not on this machine",
        ("3.99", "newest", "2.21"): "python3.99 is not on this machine",
    }


def test_a_python_is_there_if_it_runs(script):
    assert not script.has_python("3.99")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    runs = subprocess.run(["sh", "-c", f"python{version} -c 'import venv'"], capture_output=True).returncode == 0
    assert script.has_python(version) == runs


def test_the_last_line_of_pytest_is_the_result(script):
    assert script.outcome("2 failed, 317 passed, 4 skipped in 12.30s", 1) == "2 failed, 317 passed, 4 skipped"
    assert script.outcome("....\n317 passed, 20 deselected, 3 warnings in 60.10s (0:01:00)\n", 0) == "317 passed"
    assert script.outcome("usage: pytest", 4) == "pytest ended with 4"


def test_what_pip_cannot_install_is_a_row(script, monkeypatch):
    made = []

    def run(command, **options):
        made.append(command[1:4])
        return subprocess.CompletedProcess(command, 0 if command[2] == "venv" else 1, "", "no matching distribution")

    monkeypatch.setattr(script.subprocess, "run", run)
    monkeypatch.setattr(script.shutil, "copytree", lambda source, target, **_: target)
    passed, line = script.check(script.Combination("3.11", "3.12", "2.21"), ["tests/model"])
    assert passed and line == "| 3.11 | 3.12 | 2.21 |  | `tests/model` | pip finds no versions that go together |"
    assert made[0][1] == "venv" and made[1] == ["-m", "pip", "install"]
