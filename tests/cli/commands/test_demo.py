"""``tfgreen demo``."""

from __future__ import annotations

import json

import pytest

from tfgreen.recipes.measure import measure_variants as measure


@pytest.mark.slow
def test_demo_on_a_model_of_ones_own(run, files, tmp_path, quick):
    command = f"demo --model @model.keras --data @good.npz --epochs 1 --output {tmp_path}/out"
    code, out, err = run(command)
    assert code == 0 and "pruned-int8" in out and "model.tflite" in out and "prune while training" in err
    code, out, _ = run(f"{command} --json")  # over its own earlier result
    assert code == 0 and json.loads(out) == json.loads((tmp_path / "out" / "report.json").read_text())


def test_demo_fails_with_1_if_an_artifact_does_not_verify(run, files, tmp_path, quick, monkeypatch):
    from tfgreen.deploy.verify import verify

    strict = lambda model, lite, x: verify(model, lite, x, mean_scales=0.0, max_scales=0.0)  # noqa: E731
    monkeypatch.setattr(measure, "verify", strict)
    command = f"demo --model @model.keras --data @good.npz --epochs 1 --output {tmp_path}/out --json"
    code, out, _ = run(command)
    int8 = json.loads(out)["variants"][2]
    assert code == 1 and int8["verified"] is False and "the outputs differ" in int8["reasons"]["verified"]
