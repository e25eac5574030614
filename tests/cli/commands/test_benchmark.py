"""``tfgreen benchmark``."""

from __future__ import annotations

import json


def test_benchmark(run):
    code, out, err = run("benchmark @model.tflite --runs 5 --threads 2")
    assert code == 0 and "2 threads" in out and err == ""
    code, out, _ = run("benchmark @model.tflite --runs 5 --json")
    assert code == 0 and json.loads(out)["runs"] == 5
