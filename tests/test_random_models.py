"""Every verb on random models; ``scripts/fuzz_models.py`` tries any number of them and shrinks what fails."""

from __future__ import annotations

import numpy as np
import pytest

import tfgreen as tg
from tests.random_checks import CHECKS, RIGHT_REFUSALS, failure, flat
from tests.random_models import random_program, shrunk, with_code


def test_equal_seeds_give_equal_models():
    one, other = random_program(3), random_program(3)
    assert str(one) == str(other) != str(random_program(4))
    for a, b in zip(flat(one.build()(one.data(2))), flat(other.build()(other.data(2))), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_printed_program_makes_the_model():
    program = random_program(5)
    assert str(program).count("keras.Input(") >= 1 and str(program).splitlines()[-1].startswith("keras.Model(")
    assert program.build().count_params() >= 0


def test_code_that_is_hard_to_follow_comes_up():
    text = "\n".join(str(with_code(random_program(seed))) for seed in range(60))
    assert all(part in text for part in ("Coded(", "channels_first", "return_attention_scores", "by_width"))
    assert str(with_code(random_program(3))) == str(with_code(random_program(3)))


def test_a_failure_is_shrunk_to_what_it_takes():
    program = next(p for p in map(random_program, range(50)) if "Dense(" in str(p) and len(p.statements) > 6)
    smaller = shrunk(program, lambda p: "Dense(" in str(p))
    assert "Dense(" in str(smaller) and len(smaller.statements) < len(program.statements)


def test_what_goes_wrong_is_told():
    def wrong(program):
        raise AssertionError("off by 3 scales")

    assert failure(wrong, random_program(0)) == "off by 3 scales"
    assert failure(lambda program: None, random_program(0)) == ""
    assert failure(lambda program: {}["x"], random_program(0)).startswith("KeyError")


@pytest.mark.parametrize("reason, found", [("scales differ", "refused: scales differ"), (RIGHT_REFUSALS[0], "")])
def test_a_trained_model_that_is_refused_is_a_failure_unless_no_file_could_be(monkeypatch, reason, found):
    def refuse(*args, **kwargs):
        raise tg.ConversionError(reason)

    monkeypatch.setattr(tg, "convert", refuse)
    assert failure(CHECKS["trained file"], random_program(5)) == found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("check", CHECKS)
def test_verbs_on_random_models(check, seed):
    assert not failure(CHECKS[check], program := random_program(seed)), f"\n{program}"
