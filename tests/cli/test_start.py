"""Progress goes to stderr, unless it is not wanted."""

from __future__ import annotations


def test_progress_is_on_stderr_and_can_be_left_out(run):
    command = "verify @model.keras @model.tflite --data @good.npz"
    code, out, err = run(command)
    assert code == 0 and "run both models" in err and "run both models" not in out
    assert run(f"{command} --quiet") == (0, "", "")
