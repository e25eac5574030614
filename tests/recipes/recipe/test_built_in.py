"""The recipes that come with tfgreen: found without Keras, each can be read."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tfgreen as tg
from tfgreen.recipes.recipe import built_in


def test_all_can_be_read():
    assert "balanced" in built_in.names() == tg.Recipe.names()
    for name in built_in.names():
        recipe = tg.Recipe.named(name)
        assert recipe.name == name and recipe.description and tg.Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(ValueError, match="recipe: expected one of .* received 'balance'. Did you mean 'balanced'?"):
        built_in.file_of("balance")


def test_keras_is_not_imported():
    code = "import sys; from tfgreen.recipes.recipe import built_in as b; b.names(); assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
