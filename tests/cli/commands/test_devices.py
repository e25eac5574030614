"""``tfgreen devices``."""

from __future__ import annotations

import json

import tfgreen as tg


def test_devices(run, files, tmp_path):
    lite = tg.convert(tg.load_model(files / "model.keras")).save(tmp_path / "m.tflite")
    code, out, _ = run("devices")
    assert code == 0 and "horowitz-45nm" in out and "cortex-m4-stm32l4r5" in out
    code, out, _ = run("devices --device horowitz-45nm --json")
    assert code == 0 and json.loads(out)["devices"][0]["year"] == 2014
    code, out, _ = run(f"devices {lite} --price 100 --region DEU")
    assert code == 0 and "cortex-m4-stm32l4r5: the only one" in out
    code, out, _ = run(f"devices {lite} --latency 1e-9 --json")
    assert code == 1 and json.loads(out)["choice"] is None
    code, out, _ = run("devices @model.keras --device mobile-snapdragon-855")
    assert code == 0 and "converted to float32" in out
    assert "tfgreen devices --device NAME" in out and "tg." not in out
    (tmp_path / "mine.json").write_text(json.dumps(tg.DeviceProfile.named("datacenter-h100").to_dict() | {"name": "m"}))
    assert run(f"devices {lite} --device {tmp_path / 'mine.json'}")[0] == 0
