"""The space around a recipe, and recipes of candidates."""

from __future__ import annotations

import pytest

from tfgreen.errors import InvalidValueError
from tfgreen.recipes.recipe.choices import Choice
from tfgreen.recipes.recipe.recipe import Recipe
from tfgreen.recipes.search.around import first_settings, picked, space_around
from tfgreen.recipes.search.space import Space


@pytest.mark.parametrize("name", ["balanced"])
def test_the_space_around_a_recipe_holds_it_and_begins_with_it(name):
    recipe = Recipe.named(name)
    around = space_around(recipe)
    space = Space(around.space)
    own = picked(around, space, first_settings(space))
    assert not own.space and space.size > 100 and "mask_channels.target_parameters" in space.places
    assert [step.name for step in own.steps] == [step.name for step in recipe.steps]
    for step, before in zip(own.steps, recipe.steps):
        assert step.config == before.config


def test_steps_may_be_left_out_and_shares_be_others():
    recipe = Recipe([{"prune": {"sparsity": 0.7}}, {"train": {"epochs": 2}}, "quantize", "convert"])
    around = space_around(recipe)
    space = Space(around.space)
    assert list(space.places) == ["prune", "prune.sparsity", "train.learning_rate", "quantize", "quantize.weight_bits"]
    assert space.places["prune.sparsity"].open.options[0] == 0.7
    settings = {"prune": None, "train.learning_rate": 1e-3, "quantize": None}
    left_out = picked(around, space, settings)
    assert [step.settings for step in left_out.steps] == [None, {"epochs": 2, "learning_rate": 1e-3}, None, {}]


def test_the_first_candidate_is_of_first_options_and_middles():
    steps = [
        {"prune": {"sparsity": {"choice": [0.9, 0.5]}, "seed": {"range": [10, 30]}}},
        {"train": {"learning_rate": {"range": [1e-4, 1e-2], "log": True}, "epochs": {"range": [1, 9], "step": 4}}},
        "convert",
    ]
    recipe = Recipe(steps)
    settings = first_settings(Space(recipe.space))
    assert settings["prune.sparsity"] == 0.9 and settings["prune.seed"] == 20
    assert settings["train.learning_rate"] == pytest.approx(1e-3) and settings["train.epochs"] == 5


def test_a_recipe_with_nothing_to_choose_is_refused():
    with pytest.raises(InvalidValueError, match="no setting to search for"):
        space_around(Recipe(["convert"]))


def test_the_options_of_a_choice_are_all_different():
    for name in Recipe.names():
        try:
            around = space_around(Recipe.named(name))
        except InvalidValueError:
            continue  # it has nothing to choose
        for place in Space(around.space).places.values():
            if isinstance(place.open, Choice):
                assert len(set(map(repr, place.open.options))) == len(place.open.options)
