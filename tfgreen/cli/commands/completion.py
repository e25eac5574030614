"""``tfgreen completion``: the Tab key in a shell, which asks tfgreen itself what may come next."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tfgreen.cli.command import OK, Command

# Each word comes behind a "=", so that none is taken for an option; no answer means the name of a file.
_SCRIPTS = {
    "bash": """_tfgreen() {
    local IFS=$'\\n' words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    COMPREPLY=($(tfgreen completion bash "${words[@]/#/=}" 2>/dev/null))
}
complete -o bashdefault -o default -F _tfgreen tfgreen""",
    "zsh": """#compdef tfgreen
_tfgreen() {
    local answer="$(tfgreen completion zsh "=${(@)^words[2,CURRENT]}" 2>/dev/null)"
    if [[ -n "$answer" ]]; then compadd -- "${(@f)answer}"; else _files; fi
}
compdef _tfgreen tfgreen""",
    "fish": """complete -c tfgreen -a '(
    tfgreen completion fish (begin; commandline -opc | tail -n +2; commandline -ct; end | string replace -r "^" "=")
)'""",
}


def _recipes() -> Sequence[str]:
    from tfgreen.recipes.recipe.built_in import names

    return names()


def _devices() -> Sequence[str]:
    from tfgreen.energy.devices.profile import device_names

    return device_names()


# What an argument may be that takes the name of a file too, or so many that its parser does not list them.
_NAMES = {"recipe": _recipes, "devices": _devices}


def completion(arguments: argparse.Namespace) -> int:
    """Print what makes a shell complete the commands and options of tfgreen: have the shell read it when it starts."""
    if arguments.words:
        print("\n".join(completions([word[1:] for word in arguments.words], arguments.parsers)))
    else:
        print(_SCRIPTS[arguments.shell])
    return OK


def completions(words: Sequence[str], parsers: dict[str, argparse.ArgumentParser]) -> list[str]:
    """What the last of the words behind ``tfgreen`` may become; nothing where a file or a value is expected.

    Example:
        >>> from tfgreen.cli.arguments import make_parser
        >>> from tfgreen.cli.entry import COMMANDS
        >>> parsers = make_parser(COMMANDS).parse_args(["doctor"]).parsers
        >>> completions(["pro"], parsers), completions(["convert", "m.keras", "--calibration", "m"], parsers)
        (['profile'], ['minmax', 'mse'])
    """
    *before, word = words
    if not before:
        found = [*parsers, "--help", "--version"]
    elif before[0] not in parsers:
        found = []
    else:
        actions = parsers[before[0]]._actions
        named = {option: action for action in actions for option in action.option_strings}
        last = named.get(before[-1])
        if last is not None and last.nargs != 0:
            found = list(last.choices or _NAMES.get(last.dest, list)())
        elif word.startswith("-"):
            found = [option for option in named if option.startswith("--") or word == option]
        else:
            found = [choice for action in actions if not action.option_strings for choice in action.choices or ()]
    return [text for text in found if text.startswith(word)]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(_SCRIPTS), help="for bash: eval \"$(tfgreen completion bash)\"")
    parser.add_argument("words", nargs="*", default=[], metavar="WORD", help=argparse.SUPPRESS)


COMMAND = Command(completion, _add_arguments, ("tfgreen completion bash",))
