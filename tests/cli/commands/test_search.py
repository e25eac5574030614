"""``tfgreen search`` and ``optimize --search``: the front, or what is in the way."""

from __future__ import annotations

import json

import pytest

RECIPE = """
steps:
  - prune: {sparsity: {choice: [0.25, 0.5]}}
  - convert: {quantization: float16}
"""


@pytest.fixture
def command(tmp_path):
    (tmp_path / "open.yaml").write_text(RECIPE)
    return f"@model.keras --data @good.npz --recipe {tmp_path}/open.yaml --trials 2 --output {tmp_path}/found"


@pytest.mark.slow
def test_a_search_gives_a_front_or_1(run, command, tmp_path, quick):
    code, out, err = run(f"search {command} --max-drop 100% --region DEU")
    assert code == 0 and "(best)" in out and "written to" in out and "candidate 1" in err
    report = json.loads((tmp_path / "found" / "report.json").read_text())
    assert report["command"].startswith("tfgreen search ") and (tmp_path / "found" / "model.tflite").exists()
    code, out, err = run(f"optimize {command}2 --search --max-size 1kB --json --quiet")
    found = json.loads(out)
    assert code == 1 and err == "" and found["holds"] is False and found["binding"] == "max_size"


def test_bad_input(run, command):
    code, _, err = run(f"optimize {command} --search --dry-run")
    assert code == 2 and "--dry-run: expected without --search" in err
    code, _, err = run(f"run {command.split('--recipe ')[1].split()[0]} @model.keras --data @good.npz --output @o")
    assert code == 2 and "leaves prune.sparsity open. Search for them with tfgreen search" in err
