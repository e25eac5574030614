"""``tfgreen profile``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import tfgreen as tg
from tests import zoo


@pytest.mark.slow
def test_profile_of_a_model_that_is_still_being_pruned(capfd, tmp_path):
    pruned = tg.prune(zoo.functional(), tg.PruneConfig(schedule=tg.ConstantSparsity(0.5, begin_step=0)))
    pruned.save(tmp_path / "pruned.keras")
    code = "import sys; from tfgreen.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "profile", str(tmp_path / "pruned.keras")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and "hidden" in done.stdout


def test_profile(run):
    code, out, _ = run("profile @model.keras")
    assert code == 0 and "131" in out  # 4 * 16 + 16 + 16 * 3 + 3
    code, out, _ = run("profile @model.keras --json")
    assert code == 0 and json.loads(out)["parameters"] == 131
