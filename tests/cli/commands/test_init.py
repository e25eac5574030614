"""``tfgreen init``: the recipe that it writes can be read and run, and says what it is for."""

from __future__ import annotations

import json

import tfgreen as tg
from tfgreen.cli.commands.init import commented


def test_a_commented_recipe(run, tmp_path):
    file = tmp_path / "mine.yaml"
    command = f"init @model.keras --data @good.npz --output {file}"
    code, out, _ = run(f"{command} --max-drop 1% --recipe balanced --json")
    recipe = tg.Recipe.from_file(file)
    assert code == 0 and json.loads(out)["recipe"] == recipe.to_dict()
    assert recipe.budget.given == {"max_drop": 0.01} and recipe.steps == tg.Recipe.named("balanced").steps
    text = file.read_text()
    assert "131 parameters" in text and "# train: 36 samples" in text and "run it: tfgreen run " in text
    assert "#   max_size: 100kB  # of the .tflite file" in text and "max_drop: 1%" not in text
    code, _, err = run(command)
    assert code == 2 and "--output: expected a new file" in err and file.read_text() == text


def test_bounds_can_be_taken_in(tmp_path):
    text = commented(tg.Recipe(["prune", "train", "convert"]), [])
    lines = [line[2:] if line == "# budget:" else line.removeprefix("#") for line in text.splitlines()]
    (tmp_path / "all.yaml").write_text("\n".join(lines))
    assert len(tg.Recipe.from_file(tmp_path / "all.yaml").budget.given) == 9
