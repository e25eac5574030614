"""The table of steps."""

from __future__ import annotations

import dataclasses

import pytest

from tfgreen.errors import TfgreenError
from tfgreen.recipes.recipe.step_table import KINDS, config_of, kind_of
from tfgreen.recipes.run.steps.functions import FUNCTIONS


def test_every_step_has_a_function_and_defaults_that_work():
    assert set(FUNCTIONS) - {"original"} == set(KINDS)
    for name, kind in KINDS.items():
        assert dataclasses.is_dataclass(config_of(name, {}, name)) and set(kind.filled).isdisjoint(kind.fields)


def test_lists_become_tuples_and_overrides_configs():
    config = config_of("prune", {"block_size": [4, 1], "layers": {"head": None, "b*": {"sparsity": 0.2}}}, "prune")
    assert config.block_size == (4, 1) and config.layers["head"] is None and config.layers["b*"].sparsity == 0.2


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(TfgreenError, match="Did you mean 'quantize'"):
        kind_of("quantise", "step 2")
    with pytest.raises(TfgreenError, match="Did you mean 'epochs'"):
        config_of("train", {"epoch": 3}, "step 2, train")
    with pytest.raises(TfgreenError, match="expected no settings"):
        config_of("strip", {"epoch": 3}, "step 2, strip")
    with pytest.raises(TfgreenError, match="calibration_data: expected one of"):  # the run fills it in
        config_of("convert", {"calibration_data": 3}, "convert")
    with pytest.raises(TfgreenError, match="Did you mean 'sparsity'"):
        config_of("prune", {"layers": {"head": {"sparsty": 0.5}}}, "prune")
