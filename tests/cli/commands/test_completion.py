"""``tfgreen completion``: what the shells are told, and what bash makes of it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tfgreen.cli.arguments import make_parser
from tfgreen.cli.commands.completion import completions
from tfgreen.cli.entry import COMMANDS


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["de"], ["demo", "devices"]),
        (["--v"], ["--version"]),
        (["convert", "m.keras", "--cal"], ["--calibration"]),
        (["convert", "--quantization", "int"], ["int8", "int16x8", "int4"]),
        (["convert", "--data", ""], []),  # a file
        (["convert", "m"], []),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["nonsense", "--"], []),
        (["optimize", "m.keras", "--recipe", "b"], ["balanced"]),
        (["devices", "--device", "m"], ["mobile-snapdragon-855"]),
    ],
)
def test_what_may_come_next(words, expected):
    parsers = make_parser(COMMANDS).parse_args(["doctor"]).parsers
    assert completions(words, parsers) == expected


def test_all_commands_and_options_are_offered(run):
    assert run("completion fish =conv")[1] == "convert\n"
    code, out, _ = run("completion zsh =verify =--")
    assert code == 0 and {"--data", "--json", "--unsafe", "--help"} <= set(out.split("\n"))
    assert run("completion")[2].endswith("required: shell; see 'tfgreen completion --help'\n")
    code, _, err = run("completion csh")
    assert code == 2 and "invalid choice: 'csh'" in err


SHELLS = {  # how a shell checks a script without running it
    "bash": ["bash", "-n", "/dev/stdin"],
    "zsh": ["zsh", "-n", "/dev/stdin"],
    "fish": ["fish", "-n", "/dev/stdin"],
}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_of_the_shell(shell, run):
    code, script, _ = run(f"completion {shell}")
    assert code == 0 and f"tfgreen completion {shell} " in script
    if shutil.which(shell):
        subprocess.run(SHELLS[shell], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(tmp_path, run):
    program = tmp_path / "tfgreen"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; from tfgreen.cli import main; '
                       'sys.exit(main())" "$@"\n')  # fmt: skip
    program.chmod(0o755)
    ask = 'COMP_WORDS=(tfgreen convert m.keras --flex --ke); COMP_CWORD=4; _tfgreen; echo "${COMPREPLY[@]}"'
    script = f"PATH={tmp_path}:$PATH\n{run('completion bash')[1]}\n{ask}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("--keep-float\n", "")
