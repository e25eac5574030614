"""The tables of what Keras 2 wrote otherwise, against Keras 3's own layers."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfgreen.model.keras2.config import (
    CLASSES,
    DROPPED_IN,
    MISSING,
    RENAMED,
    keras2_hard_sigmoid,
    keras3_name,
    one_line,
    translate,
)


def made(class_name, **config):
    entry = translate({"class_name": class_name, "config": {"name": "a", **config}}, "a")
    return keras.saving.deserialize_keras_object(entry)


@pytest.mark.parametrize("table", [RENAMED, MISSING], ids=["renamed", "missing"])
def test_every_new_key_is_an_argument_of_the_class_in_keras_3(table):
    for name, keys in table.items():
        arguments = inspect.signature(getattr(keras.layers, name)).parameters
        new = keys.values() if table is RENAMED else keys
        assert set(new) <= set(arguments), name


def test_every_class_that_a_table_names_is_one_of_keras_3():
    for name in (*DROPPED_IN, *RENAMED, *MISSING, *(new for new, _ in CLASSES.values())):
        assert hasattr(keras.layers, name), name
    assert not any(hasattr(keras.layers, old) for old in CLASSES)


def test_settings_are_renamed_dropped_and_added():
    assert made("LeakyReLU", alpha=0.25).negative_slope == 0.25
    assert made("ThresholdedReLU", theta=0.5).threshold == 0.5
    assert made("BatchNormalizationV1", axis=[3], fused=True, renorm=False).axis == 3
    assert made("SyncBatchNormalization").synchronized
    assert made("LSTM", units=2, implementation=2, time_major=False).units == 2
    assert not made("GRU", units=2).reset_after and made("GRU", units=2, reset_after=True).reset_after
    assert made("DepthwiseConv2D", kernel_size=3, groups=4).kernel_size == (3, 3)
    assert made("Dense", units=2, kernel_initializer={"class_name": "Zeros", "config": {"dtype": "float32"}}).units == 2
    assert made("Dense", units=2, dtype={"class_name": "Policy", "config": {"name": "mixed_float16"}}).compute_dtype \
        == "float16"
    inner = {"class_name": "LeakyReLU", "config": {"name": "b", "alpha": 0.1}}
    assert made("TimeDistributed", layer=inner).layer.negative_slope == 0.1


@pytest.mark.parametrize(
    "name, config, message",
    [
        ("LSTM", {"units": 2, "time_major": True}, "expected time_major = False, because Keras 3 has no such setting"),
        ("BatchNormalization", {"renorm": True}, "renorm = False"),
        ("SeparableConv2D", {"filters": 2, "kernel_size": 3, "groups": 2}, "groups = 1"),
        ("NoSuchLayer", {}, "custom_objects={'NoSuchLayer': NoSuchLayer}"),
    ],
)
def test_a_setting_that_would_compute_something_else_is_refused(name, config, message):
    with pytest.raises(ValueError, match=rf"layer 'a' \({name}\).*{message}"):
        made(name, **config)


@settings(deadline=None)
@given(st.floats(-10, 10))
def test_the_hard_sigmoid_is_that_of_keras_2(x):
    assert float(keras2_hard_sigmoid(np.float64(x))) == pytest.approx(min(max(0.2 * x + 0.5, 0), 1), abs=1e-6)
    assert made("LSTM", units=1, recurrent_activation="hard_sigmoid").cell.recurrent_activation is keras2_hard_sigmoid


@given(st.text("ab/_", min_size=1))
def test_names_hold_no_slash(name):
    assert "/" not in keras3_name(name) and len(keras3_name(name)) == len(name)


def test_one_line_of_a_message_of_keras():
    assert one_line("") == "no reason given"
    assert one_line("\x1b[1mFirst.\x1b[0m\nSecond.") == "First"
    assert one_line("wrapped. Exception encountered: the cause.\nmore") == "the cause"
