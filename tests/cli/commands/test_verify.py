"""``tfgreen verify``."""

from __future__ import annotations

import json

import keras


def test_verify_fails_with_1_for_another_model(run, files, tmp_path):
    other = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(3, "softmax")], name="other"
    )
    other.save(tmp_path / "other.keras")
    assert run(f"convert {tmp_path}/other.keras --output {tmp_path}")[0] == 0
    code, out, _ = run(f"verify @model.keras {tmp_path}/other-float32.tflite --data @good.npz")
    assert code == 1 and "FAILED" in out
    code, out, _ = run(f"verify @model.keras {tmp_path}/other-float32.tflite --data @good.npz --json")
    assert code == 1 and json.loads(out)["passed"] is False
