"""``tfgreen report``: one run, several, pages, exit codes, no Keras."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.reports.examples import whole_report
from tfgreen.reports.limits import Limit


@pytest.fixture
def runs(tmp_path):
    for name in ("a", "b"):
        whole_report(limits=[], chosen="float32").save(tmp_path / name)
    return tmp_path


def test_one_run(run, runs):
    code, out, _ = run(f"report {runs}/a --output {runs}/page")
    assert code == 0 and "written to" in out and "report.html" in out
    assert (runs / "page" / "report.html").read_text() == (runs / "a" / "report.html").read_text()
    code, out, _ = run(f"report {runs}/a/report.json --json")
    assert code == 0 and json.loads(out)["variants"]


def test_a_budget_that_is_missed_gives_1(run, runs):
    whole_report().save(runs / "missed")
    code, out, _ = run(f"report {runs}/missed")
    assert code == 1 and "misses 1 of 3 limits" in " ".join(out.split())
    assert run(f"report {runs}/a {runs}/missed")[0] == 1
    whole_report(limits=[Limit(name="latency", limit=5, value=None, unit="ms", reason="none was measured")]).save(
        runs / "unknown"
    )
    assert run(f"report {runs}/unknown")[0] == 1


def test_several_runs(run, runs):
    code, out, _ = run(f"report {runs}/a {runs}/b --output {runs}/both")
    assert code == 0 and "comparison.html" in out and "accuracy" in out
    assert sorted(path.name for path in (runs / "both").iterdir()) == [
        "comparison.html", "comparison.json", "comparison.md",
    ]  # fmt: skip
    assert run(f"report {runs}/a {runs}/b --quiet") == (0, "", "")


def test_bad_input(run, runs, files):
    (runs / "damaged").mkdir()
    (runs / "damaged" / "report.json").write_text("{")
    for command, said in {
        f"report {runs}/none": "none: cannot be read",
        f"report {runs}": "report.json: cannot be read",
        f"report {runs}/damaged": "not a report.json of tfgreen",
        f"report {runs}/a {runs}/a": "expected different reports",
        f"report {runs}/a --output {files}/full": "holds 'mine.txt'",
    }.items():
        code, out, err = run(command)
        assert code == 2 and out == "" and said in err and err.count("\n") == 1


def test_keras_is_not_imported(runs):
    code = (
        "import sys; from tfgreen.cli import main; code = main(sys.argv[1:])\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, "report", f"{runs}/a", f"{runs}/b"], capture_output=True)
    assert done.returncode == 0, done.stderr
