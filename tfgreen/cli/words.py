"""Say in options what a sentence of the library says in Python.

A sentence names a setting as Python writes it, ``keep_float=('conv',)`` or ``tg.convert(model, flex=True)``. Each such
piece is read as the Python that it is and written with the options of the parser, so there is no list of sentences.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from typing import Any

from tfgreen.cli.steps import STEPS

# Where a piece of Python begins: a public name, a config, a setting, or the name of one with an underscore.
_START = re.compile(
    r"(?<![\w.'\"/-])(?:print\((?=tg\.)|tg\.[\w.]*\w\(?|[A-Z]\w*Config\(|[a-z]\w*=(?=[\w'\"(\[{])"
    r"|[a-z]+(?:_[a-z0-9]+)+\b(?!\())"
)
_PLAIN_VALUE = re.compile(r"[\w.+-]*\w")
_PAIRS = {"(": ")", "[": "]", "{": "}"}

# What the library calls a thing -> what the parser calls it.
_SETTINGS = {
    "calibration_data": "data",
    "layer": "layers",
    "device": "devices",
    "external": "meter",
    "target": "runs_on",
    "custom_objects": "modules",
    "constraints": "latency",
    "max_co2_kg": "max_co2",
    "safe_mode": "unsafe",
}
_OFF = ("safe_mode",)  # settings that the option switches off, whatever it is called
_VERBS = {
    "load_model": "MODEL",
    "load_litert": "TFLITE",
    "inference_energy": "tfgreen energy",
    "compare_energy": "tfgreen energy",
    "recommend_device": "tfgreen devices",
    "DeviceProfile.named": "tfgreen devices --device NAME",
    "check_target": "tfgreen convert --runs-on TARGET",
    "compare_reports": "tfgreen report",
}


def in_options(text: str, arguments: argparse.Namespace) -> str:
    """Say what a sentence of the library says in the words of the command that was parsed to ``arguments``.

    An option of another command comes with that command. A verb that no command stands for is a step of a recipe, and
    what is neither is said to be Python.

    Example:
        >>> from tfgreen.cli.entry import COMMANDS
        >>> from tfgreen.cli.arguments import make_parser
        >>> arguments = make_parser(COMMANDS).parse_args(["convert", "model.keras"])
        >>> in_options("Try keep_float=('conv', 'head'), or tg.convert(model, quantization='float16').", arguments)
        'Try --keep-float conv --keep-float head, or --quantization float16.'
    """
    parts, place = list[str](), 0
    for found in _START.finditer(text):
        if found.start() >= place:
            end = _end(text, found)
            parts += [text[place : found.start()], _said(text[found.start() : end], arguments)]
            place = end
    return "".join([*parts, text[place:]])


def subject_in_options(subject: str, arguments: argparse.Namespace) -> str:
    """The option that an error is about, or the subject itself.

    Example:
        >>> from tfgreen.cli.entry import COMMANDS
        >>> from tfgreen.cli.arguments import make_parser
        >>> subject_in_options("calibration_data", make_parser(COMMANDS).parse_args(["convert", "model.keras"]))
        '--data'
    """
    own, _ = _options(arguments)
    action = own.get("data" if subject in ("x", "y") else _SETTINGS.get(subject, subject))
    return subject if action is None else _name(action)


def _options(
    arguments: argparse.Namespace,
) -> tuple[dict[str, argparse.Action], dict[str, tuple[str, argparse.Action]]]:
    """The arguments of the command, and those of all others with the command that takes them."""
    own = {action.dest: action for action in arguments.parser._actions}
    others: dict[str, tuple[str, argparse.Action]] = {}
    for name, parser in arguments.parsers.items():
        others = {**{action.dest: (name, action) for action in parser._actions}, **others}
    return own, others


def _end(text: str, found: re.Match[str]) -> int:
    """Where the piece of Python that begins there ends."""
    piece, end = found[0], found.end()
    if piece.endswith("("):
        return _closed(text, end - 1)
    if not piece.endswith("="):
        return end
    if text[end] in "'\"([{":
        end = _closed(text, end)
    elif plain := _PLAIN_VALUE.match(text, end):
        end = plain.end()
    return _closed(text, end) if text[end : end + 1] in ("(", "[") else end


def _closed(text: str, start: int) -> int:
    """The place behind the bracket or quote that closes the one at ``start``; the end of the text if none does."""
    if text[start] in "'\"":
        closing = text.find(text[start], start + 1)
        return len(text) if closing < 0 else closing + 1
    place = start + 1
    while place < len(text) and text[place] != _PAIRS[text[start]]:
        place = _closed(text, place) if text[place] in "'\"([{" else place + 1
    return min(place + 1, len(text))


def _said(piece: str, arguments: argparse.Namespace) -> str:
    """A piece of Python in options; itself if it is none after all."""
    try:
        node = ast.parse(f"call({piece})" if re.match(r"\w+=", piece) else piece, mode="eval").body
    except SyntaxError:
        return piece
    if isinstance(node, ast.Call):
        function = ast.unparse(node.func)
        if function == "print" and len(node.args) == 1:
            return _said(ast.unparse(node.args[0]), arguments)
        settings = [(word.arg, word.value) for word in node.keywords if word.arg]
        if function == "call":
            return " ".join(_setting(name, value, arguments) or piece for name, value in settings)
        return _called(function, settings, piece, arguments)
    if isinstance(node, ast.Name):
        return _setting(node.id, None, arguments) or piece
    return _called(piece, [], piece, arguments)


def _called(function: str, settings: list[tuple[str, ast.expr]], piece: str, arguments: argparse.Namespace) -> str:
    verb = function.removeprefix("tg.")
    if verb in _VERBS:
        return _VERBS[verb]
    name = verb.removesuffix("Config").lower() if verb.endswith("Config") else verb
    if name not in arguments.parsers and name in STEPS:
        given = ", ".join(f"{setting}: {ast.unparse(value)}" for setting, value in settings)
        return f"the step {name}{f' (with {given})' if given else ''} of a recipe"
    if name not in arguments.parsers:
        return f"{piece} in Python"
    own = argparse.Namespace(parser=arguments.parsers[name], parsers=arguments.parsers)
    words = [word for setting, value in settings if (word := _setting(setting, value, own))]
    is_own = arguments.parsers[name] is arguments.parser
    return " ".join(words if words and is_own else [f"tfgreen {name}", *words])


def _setting(name: str, value: ast.expr | None, arguments: argparse.Namespace) -> str:
    """The option of a setting, with its value where there is one; "" if no command has it."""
    own, others = _options(arguments)
    dest = _SETTINGS.get(name, name)
    if name in _OFF:
        value = None
    if dest in own:
        return _option(own[dest], value)
    if dest in others:
        command, action = others[dest]
        return f"tfgreen {command} {_option(action, value)}" if value is not None else _name(action)
    return ""


def _option(action: argparse.Action, node: ast.expr | None) -> str:
    if node is None or not action.option_strings:
        return _name(action)
    try:
        value = ast.literal_eval(node)
    except ValueError:
        value = ...
    value = action.metavar if value is ... else value
    if action.nargs == 0:
        return _name(action) if value else f"no {_name(action)}"
    if isinstance(value, bool):
        value = "yes" if value else "no"
    several = [f"{key}={item}" for key, item in value.items()] if isinstance(value, dict) else value
    if not isinstance(several, (list, tuple)):
        several = [several]
    elif not isinstance(action.default, list):
        several = ["x".join(map(str, several))]
    return " ".join(f"{_name(action)} {shlex.quote(str(item))}" for item in several) or _name(action)


def _name(action: argparse.Action) -> Any:
    return action.option_strings[-1] if action.option_strings else action.metavar
