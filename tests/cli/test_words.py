"""in_options: a setting in Python becomes the option; what is no Python of tfgreen stays."""

from __future__ import annotations

import pytest

from tfgreen.cli.arguments import make_parser
from tfgreen.cli.entry import COMMANDS
from tfgreen.cli.words import in_options, subject_in_options


def parse(line):
    return make_parser(COMMANDS).parse_args(line.split())


CONVERT = {
    "Pass tg.convert(model, quantization='int8', calibration_data=x[:512]).": "Pass --quantization int8 --data DATA.",
    "A float file may have it: ConvertConfig(flex=True).": "A float file may have it: --flex.",
    "Try keep_float=('a',), or train it.": "Try --keep-float a, or train it.",
    "keep_float=['a b', \"it's\"]": "--keep-float 'a b' --keep-float 'it'\"'\"'s'",
    "try calibration='percentile', or not": "try --calibration percentile, or not",
    "convert with sparse_weights=False.": "convert with --sparse-weights no.",
    "convert with layers={'out': 'int8', 'in': 'int4'}": "convert with --layer out=int8 --layer in=int4",
    "List them in keep_float; strict=True.": "List them in --keep-float; --strict.",
    "with strict=False": "with no --strict",
    "Pass custom_objects={'Mine': Mine}.": "Pass --import MODULE.",
    "If you trust the file, pass safe_mode=False.": "If you trust the file, pass --unsafe.",
    "print(tg.DeviceProfile.named(name)) shows it": "tfgreen devices --device NAME shows it",
    "look with tg.verify(model, lite, x).": "look with tfgreen verify.",
    "ConvertConfig(keep_float=...) lets its layer": "--keep-float LAYER lets its layer",
    "first tg.equalize(model), then": "first the step equalize of a recipe, then",
    "tg.quantize(model, keep_float=['a'])": "the step quantize (with keep_float: ['a']) of a recipe",
    "tg.profile_operators shows where": "tg.profile_operators in Python shows where",
    "Name one, region='DEU'.": "Name one, tfgreen optimize --region DEU.",
}
AS_IT_IS = (
    "layer 'keep_float' (Dense): expected",
    "/tmp/flex=True/my_model.keras: cannot be read",
    "Give recurrent layers unroll=True and a fixed number of steps.",
    "keep_float=(", "tg.convert(model", "x = y", "<text x=\"2\" y=\"3\">", "3 conv_2d, 1 batch_norm", "",
)  # fmt: skip


@pytest.mark.parametrize("sentence", CONVERT)
def test_a_setting_is_said_as_the_option_of_the_command(sentence):
    assert in_options(sentence, parse("convert m.keras")) == CONVERT[sentence]


@pytest.mark.parametrize("sentence", AS_IT_IS[:3] + AS_IT_IS[5:])
def test_other_text_stays(sentence):
    assert in_options(sentence, parse("convert m.keras")) == sentence


def test_an_option_of_another_command_comes_with_that_command():
    verify = parse("verify m.keras m.tflite --data d.npz")
    assert in_options("Try keep_float=['a'].", verify) == "Try tfgreen convert --keep-float a."
    assert in_options("Pass calibration_data=x.", verify) == "Pass --data DATA."


def test_the_subject_of_an_error_is_the_option():
    arguments = parse("convert m.keras")
    subjects = {"keep_float": "--keep-float", "layers": "--layer", "x": "--data", "model 'a'": "model 'a'"}
    assert {subject: subject_in_options(subject, arguments) for subject in subjects} == subjects
