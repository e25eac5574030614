"""The parser: what each command is called with, and errors that name the option."""

from __future__ import annotations

import pytest

from tfgreen.cli.arguments import make_parser
from tfgreen.cli.entry import COMMANDS
from tfgreen.errors import InvalidValueError


def parse(line):
    return make_parser(COMMANDS).parse_args(line.split())


def test_convert_takes_what_the_config_takes():
    arguments = parse(
        "convert m.keras --quantization int8 --data d.npz --samples 7 --calibration mse --keep-float a --keep-float b* "
        "--layer c=int4 --layer d=e=float32 --strict --dynamic-batch --flex --runs-on tflm --output out "
        "--sparse-weights no"
    )
    assert arguments.keep_float == ["a", "b*"] and arguments.layers == [("c", "int4"), ("d=e", "float32")]
    assert (arguments.samples, arguments.calibration, arguments.runs_on, arguments.output) == (7, "mse", "tflm", "out")
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
        ("convert m --runs-on gpu", "argument --runs-on: invalid choice: 'gpu'"),
        ("profle m", "invalid choice: 'profle'"),
        ("profle m", "Did you mean 'profile'?; see 'tfgreen --help'"),
        ("convert m --target tflm --keep-floats a", "Did you mean '--keep-float'?; see 'tfgreen convert --help'"),
        ("convert m --quant int8", "unrecognized arguments: --quant int8"),
        ("convert m --quantization int9", "Did you mean 'int8'?"),
        ("verify m t", "the following arguments are required: --data; see 'tfgreen verify --help'"),
    ],
)
def test_what_is_not_understood_names_the_option(line, message):
    with pytest.raises(InvalidValueError) as caught:
        parse(line)
    assert message in str(caught.value)
