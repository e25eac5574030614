from __future__ import annotations

import os
import subprocess
import sys

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfgreen as tg
from tfgreen.config import Config
from tfgreen.training.schedules import _tfmot_schedules

shares = st.floats(0, 0.99)
steps = st.integers(0, 500)


@settings(max_examples=40, deadline=None)
@given(shares, shares, steps, st.integers(1, 500), st.floats(0.5, 5), st.integers(1, 60), st.integers(0, 1200))
def test_polynomial_decay_equals_tfmots_run_beside_it(initial, final, begin, span, power, frequency, step):
    arguments = (initial, final, begin, begin + span, power, frequency)
    ours, theirs = tg.PolynomialDecay(*arguments), _tfmot_schedules().PolynomialDecay(*arguments)
    should_prune, sparsity = theirs(step)
    if begin <= step:
        assert ours.sparsity_at(step) == pytest.approx(float(sparsity), abs=2e-6)
    if step != begin + span:  # the last step is always an update here
        assert ours.updates_at(step) == bool(should_prune)


@settings(max_examples=40, deadline=None)
@given(shares, steps, st.one_of(st.just(-1), st.integers(0, 500)), st.integers(1, 60), st.integers(0, 1200))
def test_constant_sparsity_equals_tfmots_run_beside_it(target, begin, span, frequency, step):
    arguments = (target, begin, -1 if span == -1 else begin + span, frequency)
    should_prune, sparsity = _tfmot_schedules().ConstantSparsity(*arguments)(step)
    assert tg.ConstantSparsity(*arguments)(step) == (bool(should_prune), pytest.approx(float(sparsity)))


SCHEDULES = [tg.PolynomialDecay(0.1, 0.8, 5, 100, power=2.5, frequency=7), tg.ConstantSparsity(0.5, 3, end_step=9)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_every_form_of_serialization_round_trips(schedule):
    assert type(schedule).from_config(schedule.get_config()) == schedule
    assert Config.from_dict(schedule.to_dict()) == schedule
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule)) == schedule
    assert eval(repr(schedule), {type(schedule).__name__: type(schedule)}) == schedule


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_values_are_plain_python(schedule):
    should_prune, sparsity = schedule(20)
    assert type(should_prune) is bool and type(sparsity) is float


def test_the_last_update_reaches_the_final_sparsity_where_the_frequency_does_not_divide_the_span():
    schedule = tg.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=25, frequency=10)
    assert [step for step in range(30) if schedule.updates_at(step)] == [0, 10, 20, 25]
    assert schedule.sparsity_at(25) == 0.8


def test_begin_equal_to_end_prunes_at_once_where_tfmot_gives_nan():
    schedule = tg.PolynomialDecay(0.0, 0.8, begin_step=4, end_step=4)
    assert schedule(4) == (True, 0.8)
    assert [step for step in range(10) if schedule.updates_at(step)] == [4]


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: tg.ConstantSparsity(1.0, 0), ValueError, r"target_sparsity.*>= 0 and < 1, received 1.0"),
        (lambda: tg.ConstantSparsity(-0.1, 0), ValueError, "target_sparsity"),
        (lambda: tg.ConstantSparsity(float("nan"), 0), ValueError, "target_sparsity"),
        (lambda: tg.ConstantSparsity("half", 0), TypeError, "target_sparsity.*a number.*received str"),
        (lambda: tg.ConstantSparsity(0.5, -1), ValueError, "begin_step"),
        (lambda: tg.ConstantSparsity(0.5, 1.5), ValueError, "begin_step.*an integer >= 0, received 1.5"),
        (lambda: tg.ConstantSparsity(0.5, 10, end_step=5), ValueError, r"end_step.*begin_step \(10\).*received 5"),
        (lambda: tg.ConstantSparsity(0.5, 0, frequency=0), ValueError, "frequency.*>= 1, received 0"),
        (lambda: tg.PolynomialDecay(0.0, 1.2, 0, 10), ValueError, "final_sparsity"),
        (lambda: tg.PolynomialDecay(0.0, 0.5, 10, 5), ValueError, "end_step"),
        (lambda: tg.PolynomialDecay(0.0, 0.5, 0, -1), ValueError, "end_step"),
        (lambda: tg.PolynomialDecay(0.0, 0.5, 0, 10, power=0), ValueError, "power.*> 0"),
        (lambda: tg.PolynomialDecay(0.0, 0.5, 0, True), TypeError, "end_step.*received bool"),
    ],
)
def test_arguments_out_of_range_say_what_to_change(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_door_to_tfmot_leaves_tf_keras_and_the_environment_as_they_were():
    code = (
        "import os, tfgreen as tg\n"
        "assert tg.PolynomialDecay(0.0, 0.8, 0, 10).sparsity_at(5) > 0.6\n"
        "import sys, keras, tensorflow as tf\n"
        "assert 'tensorflow_model_optimization' in sys.modules\n"
        "assert 'TF_USE_LEGACY_KERAS' not in os.environ and tf.keras.Model is keras.Model\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
