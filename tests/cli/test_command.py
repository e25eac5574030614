"""Command: each has help, one grammar, and examples that run."""

from __future__ import annotations

import shlex
import shutil

import pytest

from tests.reports.examples import whole_report
from tfgreen.cli import main
from tfgreen.cli.arguments import make_parser
from tfgreen.cli.entry import COMMANDS

EXAMPLES = [example for command in COMMANDS for example in command.examples]
# They train for as many epochs as recipes and searches take.
SLOW = {example for example in EXAMPLES if example == "tfgreen demo" or "--max-size" in example or "search" in example}


@pytest.mark.parametrize(
    "example", [pytest.param(example, marks=[pytest.mark.slow] * (example in SLOW)) for example in EXAMPLES]
)
def test_an_example_of_the_help_runs_as_it_is_printed(example, files, tmp_path, monkeypatch, capfd, quick):
    for name, source in {"model.keras": "model.keras", "model.tflite": "model.tflite", "data.npz": "good.npz"}.items():
        shutil.copy(files / source, tmp_path / name)
    (tmp_path / "recipe.yaml").write_text("steps:\n  - prune: {sparsity: 0.5}\n  - train: {epochs: 1}\n  - convert\n")
    for name in ("run", "other"):
        whole_report(limits=[], chosen="float32").save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    name, *words = shlex.split(example)
    assert name == "tfgreen" and main(words) in ((0, 1) if "--max-drop" in words else (0,))
    capfd.readouterr()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_has_its_help_its_examples_and_the_words_that_all_have(command, capsys):
    assert main([command.name, "--help"]) == 0
    out = capsys.readouterr().out
    assert command.help in " ".join(out.split()) and "exit code: 0" in out
    assert command.examples and all(example in out for example in command.examples)
    parsers = make_parser([command])._subparsers._group_actions[0].choices
    options = {option for action in parsers[command.name]._actions for option in action.option_strings}
    assert command.name == "completion" or {"--json", "--quiet", "--output"} <= options
