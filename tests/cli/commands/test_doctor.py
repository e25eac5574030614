"""``tfgreen doctor``."""

from __future__ import annotations

import json


def test_doctor(run):
    code, out, err = run("doctor")
    assert code == 0 and "tensorflow" in out and "CPU" in out and "RAPL" in out and err == ""
    code, out, _ = run("doctor --json")
    facts = json.loads(out)
    assert code == 0 and facts["devices"] and facts["energy_sources"][0].keys() == {"name", "available", "detail"}
