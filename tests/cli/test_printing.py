"""Results: text, JSON, a file, silence, all in the words of the command line."""

from __future__ import annotations

import json


def test_output_quiet_and_json(run, tmp_path):
    code, shown, _ = run("profile @model.keras --json")
    file = tmp_path / "profile.json"
    code, out, err = run(f"profile @model.keras --quiet --output {file}")
    assert (code, out, err) == (0, "", "") and file.read_text() == shown
    assert json.loads(shown)["parameters"] == 131
    code, out, err = run("verify @model.keras @model.tflite --data @good.npz --quiet --json")
    assert code == 0 and json.loads(out)["passed"] and err == ""
    code, out, err = run("profile @model.keras --output /proc/nowhere/x.json")
    assert code == 2 and "/proc/nowhere/x.json: cannot be written" in err


def test_notes_in_json_have_the_words_of_the_command_line(run, tmp_path):
    code, out, _ = run("devices @model.tflite --device mobile-snapdragon-855 --json")
    notes = " ".join(json.loads(out)["notes"])
    assert "tfgreen devices --device NAME" in notes and "tg." not in notes
