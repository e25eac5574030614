"""The table of functions."""

from __future__ import annotations

import inspect

import pytest

from tfgreen.recipes.run.steps.functions import FUNCTIONS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_takes_a_state_settings_and_the_task(name):
    assert list(inspect.signature(FUNCTIONS[name]).parameters) == ["state", "settings", "task"]
