"""``tfgreen energy``."""

from __future__ import annotations

import json

import tfgreen as tg


def test_energy(run, files, tmp_path):
    lite = tg.convert(tg.load_model(files / "model.keras")).save(tmp_path / "m.tflite")
    code, out, err = run(f"energy {lite} --data @good.npz --seconds 0.1 --region DEU")
    assert code == 0 and "energy per inference" in out and "CO2e" in out and "measure the energy" in err
    code, out, _ = run(f"energy @model.keras {lite} --data @good.npz --seconds 0.1 --json")
    found = json.loads(out)
    assert code == 0 and set(found["results"]) == {"model.keras", "m.tflite"}
    assert list(found["verdicts"]) == ["m.tflite"]
    (tmp_path / "usb.csv").write_text("timestamp,watts\n0,5\n1,5\n2,5\n")  # of another day
    code, out, _ = run(f"energy {lite} --data @good.npz --seconds 0.1 --meter {tmp_path}/usb.csv")
    assert code == 1 and "after the last row" in out
