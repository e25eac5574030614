"""Recipes: their forms, errors with lines, and what is left open."""

from __future__ import annotations

import json

import pytest

from tfgreen.errors import FileError, TfgreenError
from tfgreen.recipes.recipe.budget import Budget
from tfgreen.recipes.recipe.choices import Range
from tfgreen.recipes.recipe.recipe import Recipe

STEPS = [{"prune": {"sparsity": 0.5}}, {"train": {"epochs": 2}}, {"convert": {"quantization": "int8"}}]


def test_the_built_in_ones_are_complete_and_round_trip(tmp_path):
    for name in Recipe.names():
        recipe = Recipe.named(name)
        assert recipe.name == name and recipe.description and not recipe.space
        path = tmp_path / f"{name}.yaml"
        path.write_text(recipe.to_yaml())
        assert Recipe.from_file(path) == Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    with pytest.raises(TfgreenError, match="Did you mean 'balanced'"):
        Recipe.named("balance")


def test_every_form_is_taken(tmp_path):
    fields = {"budget": {"max_drop": "1%"}, "description": "why", "loss": {"out": "mse"}, "optional": ["prune"]}
    recipe = Recipe(STEPS, name="mine", **fields)
    assert recipe.budget == Budget(max_drop=0.01) and recipe.optional == ("prune",)
    path = tmp_path / "mine.yaml"
    path.write_text(recipe.to_yaml())
    assert Recipe.of(recipe) == Recipe.of(str(path)) == Recipe.of(path) == Recipe.of(recipe.to_dict()) == recipe
    assert Recipe.of(STEPS).steps == recipe.steps and Recipe.of("balanced").name == "balanced"
    with pytest.raises(FileError, match="cannot be read"):
        Recipe.of("missing.yaml")


def test_what_is_open_is_named_picked_and_written():
    pruning = {"choice": [None, {"sparsity": {"range": [0.3, 0.8]}}]}
    recipe = Recipe([{"prune": pruning}, {"train": {"epochs": {"choice": [1, 2]}}}, "train", "convert"])
    assert list(recipe.space) == ["prune", "train.epochs"]
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    picked = recipe.pick({"prune": recipe.space["prune"].options[1], "train.epochs": 2})
    assert picked.space == {"prune.sparsity": Range(0.3, 0.8)}
    assert picked.pick({"prune.sparsity": 0.5}).steps[0].settings == {"sparsity": 0.5}
    without = recipe.pick({"prune": None, "train.epochs": 1})
    assert without.steps[0].settings is None and Recipe.from_dict(without.to_dict()) == without
    with pytest.raises(TfgreenError, match="Did you mean 'train.epochs'"):
        recipe.pick({"train.epoch": 1})
    with pytest.raises(TfgreenError, match="train.epochs: expected one of"):
        recipe.pick({"train.epochs": 3})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("steps:\n  - prune: {sparsty: 0.5}\n  - convert\n", r"line 2: step 1, prune, sparsty.*mean 'sparsity'\?"),
        ("steps:\n  - trian:\n  - convert\n", r"line 2: step 1: expected a step.*mean 'train'\?"),
        ("steps:\n  - train:\n      epochs: 2\n      learning_rate: -1\n  - convert\n", "line 4: learning_rate"),
        ("steps:\n  - convert\nbudget:\n  max_drop: 1%\n  max_size: 0\n", "line 5: max_size: expected a number > 0"),
        ("steps:\n  - convert\nbudget: {max_szie: 3}\n", r"line 3: 'max_szie' is no bound.*mean 'max_size'\?"),
        ("name: a\nstep:\n  - convert\n", r"line 2: 'step' is no key.*Did you mean 'steps'\?"),
        ("name: a\n", "steps: expected a list"),
        ("name: 3\nsteps: [convert]\n", "line 1: name: expected a text"),
        ("- convert\n", "recipe: expected settings by name"),
        ("optional: [prun]\nsteps: [convert]\n", r"line 1: optional.*mean 'prune'\?"),
        ("version: 0\nsteps: [convert]\n", "line 1: version"),
        ("steps: [prune]\n", "line 1: No step of the recipe makes a file"),
    ],
)
def test_errors_name_file_line_and_the_nearest(tmp_path, text, match):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(TfgreenError, match=match) as found:
        Recipe.from_file(path)
    assert str(found.value).startswith(str(path)) and str(found.value).count(str(path)) == 1


def test_a_newer_version_says_what_to_install():
    with pytest.raises(TfgreenError, match=r"version 2.*written by tfgreen 9.1: install that"):
        Recipe.from_dict({"version": 2, "tfgreen": "9.1", "steps": ["convert"], "unknown": 1})
