"""The table of steps is that of recipes."""

from __future__ import annotations

from tfgreen.cli.steps import STEPS
from tfgreen.recipes.recipe.step_table import KINDS


def test_every_step_is_explained():
    assert set(STEPS) == set(KINDS)
