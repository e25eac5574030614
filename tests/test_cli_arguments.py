"""The parser: what each command is called with, and errors that name the option."""

from __future__ import annotations

import pytest

from tfgreen.cli import COMMANDS
from tfgreen.cli_arguments import make_parser
from tfgreen.errors import InvalidValueError


def parse(line):
    return make_parser(COMMANDS).parse_args(line.split())


def test_every_command_has_its_function_its_help_and_json(capsys):
    lines = {
        "demo": "demo",
        "profile": "profile m.keras",
        "convert": "convert m.keras",
        "verify": "verify m.keras m.tflite --data d.npz",
        "benchmark": "benchmark m.tflite",
        "energy": "energy m.tflite --data d.npz",
        "devices": "devices m.tflite",
        "doctor": "doctor",
    }
    assert set(lines) == {function.__name__ for function in COMMANDS}
    for function in COMMANDS:
        arguments = parse(f"{lines[function.__name__]} --json")
        assert arguments.command is function and arguments.json is True
        with pytest.raises(SystemExit):
            parse(f"{function.__name__} --help")
        assert function.__doc__ in " ".join(capsys.readouterr().out.split())


def test_convert_takes_what_the_config_takes():
    arguments = parse(
        "convert m.keras --quantization int8 --data d.npz --samples 7 --calibration mse --keep-float a --keep-float b* "
        "--layer c=int4 --layer d=e=float32 --strict --dynamic-batch --flex --target tflm --output out "
        "--sparse-weights no"
    )
    assert arguments.keep_float == ["a", "b*"] and arguments.layer == [("c", "int4"), ("d=e", "float32")]
    assert (arguments.samples, arguments.calibration, arguments.target, arguments.output) == (7, "mse", "tflm", "out")
    assert arguments.strict and arguments.dynamic_batch and arguments.flex and arguments.sparse_weights == "no"
    plain = parse("convert m.keras")
    assert plain.quantization == "float32" and plain.data is None and plain.keep_float == [] and not plain.strict
    assert plain.sparse_weights == "auto"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the following arguments are required: COMMAND; see 'tfgreen --help'"),
        ("benchmark m --threads 0", "argument --threads: expected a whole number from 1, received '0'"),
        ("benchmark m --runs 1e3", "argument --runs: expected a whole number from 1, received '1e3'"),
        ("demo --seed 4294967296", "argument --seed: expected a whole number from 0"),
        ("demo --sparsity nan", "argument --sparsity: expected a number between 0 and 1, received 'nan'"),
        ("convert m --layer =int8", "argument --layer: expected LAYER=float32, LAYER=int8 or LAYER=int4"),
        ("convert m --target gpu", "argument --target: invalid choice: 'gpu'"),
        ("verify m t", "the following arguments are required: --data; see 'tfgreen verify --help'"),
    ],
)
def test_what_is_not_understood_names_the_option(line, message):
    with pytest.raises(InvalidValueError) as caught:
        parse(line)
    assert message in str(caught.value)
