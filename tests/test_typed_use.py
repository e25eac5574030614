"""What an editor sees of the public names: a user's script that has them all passes ``mypy --strict``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tfgreen as tg

SCRIPT = Path(__file__).with_name("typed_use.py")


def test_the_script_names_everything_public():
    named = set(re.findall(r"\btg\.((?:federated\.)?\w+)", SCRIPT.read_text()))
    public = {*tg.__all__, *(f"federated.{name}" for name in tg.federated.__all__)} - {"federated"}
    assert public <= named and not {name for name in named if name.split(".")[0] not in tg.__all__}


@pytest.mark.slow
def test_a_strict_type_checker_accepts_right_calls_and_refuses_wrong_ones(tmp_path):
    # As for a user: the script lies in a folder of its own and tfgreen among the installed packages, so that the
    # checker reads its types and judges the script alone, whether the package was installed or is a checkout.
    root = SCRIPT.parents[1]
    script = shutil.copy(SCRIPT, tmp_path)
    run = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(root / "setup.cfg"), str(script)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    found = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.startswith("Success")
