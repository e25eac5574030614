"""ConvertConfig: which settings go together, and what they say about one layer."""

from __future__ import annotations

import dataclasses
import fnmatch
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfgreen.config import Config
from tfgreen.deploy.conversion import config as module
from tfgreen.deploy.conversion.config import ConvertConfig, ConvertOptions
from tfgreen.errors import InvalidTypeError, InvalidValueError


def test_the_options_are_the_fields():
    fields = {field.name: field.type for field in dataclasses.fields(ConvertConfig)}
    assert {name: hint.__forward_arg__ for name, hint in ConvertOptions.__annotations__.items()} == fields


NAMES = st.sampled_from(["stem", "block1/conv", "block1/norm", "block2/conv", "head"])
PATTERNS = st.sampled_from(["*", "block*", "block1/*", "*/conv", "head", "stem"])


@given(NAMES, st.lists(PATTERNS, max_size=2), st.dictionaries(PATTERNS, st.sampled_from(["float32", "int8", "int4"])))
def test_keep_float_comes_first_and_then_the_first_pattern_that_matches(path, keep, layers):
    config = ConvertConfig(quantization="int8", keep_float=tuple(keep), layers=layers)
    expected = "float32" if any(fnmatch.fnmatchcase(path, p) for p in keep) else "int8"
    if expected == "int8":
        for pattern in reversed(layers):
            expected = layers[pattern] if fnmatch.fnmatchcase(path, pattern) else expected
    assert config.mode_of(path) == expected
    assert config.places_ranges == bool(keep or layers)
    assert config.keeps_float == bool(keep or "float32" in layers.values())
    assert config.stores_int4 == ("int4" in layers.values())


@pytest.mark.parametrize("quantization", typing.get_args(module.Quantization))
def test_only_modes_with_integer_activations_take_samples_and_a_way_to_calibrate(quantization):
    config = ConvertConfig(quantization=quantization)
    assert config.integers == quantization.startswith("int")
    if not config.integers:
        with pytest.raises(InvalidValueError, match="calibration_data: expected none with quantization='[a-z]"):
            ConvertConfig(quantization=quantization, calibration_data=np.ones(3))
    if quantization not in ("int8", "int4"):
        with pytest.raises(InvalidValueError, match="quantization: expected 'int8' or 'int4' with calibration='mse'"):
            ConvertConfig(quantization=quantization, calibration="mse")
        with pytest.raises(InvalidValueError, match="output_dtype: expected 'float32' with"):
            ConvertConfig(quantization=quantization, output_dtype="int8")


def test_lists_become_tuples_and_a_round_trip_keeps_all_but_the_data():
    config = ConvertConfig(quantization="int8", keep_float=["a*"], layers={"b": "int4"}, labels=["x"], strict=True)
    assert config.keep_float == ("a*",) and config.labels == ("x",)
    assert Config.from_dict(config.to_dict()) == config
    with pytest.raises(InvalidTypeError, match="labels: expected a tuple of texts, received str"):
        ConvertConfig(labels="x")


class Named:
    name = "head"


def test_a_layer_in_the_place_of_its_name_is_told_what_that_is():
    with pytest.raises(InvalidTypeError, match=r"keep_float\[1\]: expected a text, received Named. Give .*: 'head'"):
        ConvertConfig(quantization="int8", keep_float=["a", Named()])


def test_what_asks_for_integers_is_named_with_both_ways_out():
    for setting in ({"keep_float": ["a"]}, {"layers": {"a": "int4"}}, {"calibration": "mse"}):
        (name,) = setting
        with pytest.raises(InvalidValueError, match=f"with {name}.*Set quantization='int8', or leave {name}.* out"):
            ConvertConfig(**setting)
